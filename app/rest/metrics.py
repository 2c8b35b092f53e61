"""``/metrics``: a collector that reads plain numbers when Prometheus asks; nothing is counted on the way of a tick."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.responses import Response

from app.core.ids import Segment
from app.ports.feed import ConnectionCounters
from app.rest.services import Gauges, Services

if TYPE_CHECKING:
    from collections.abc import Mapping

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_LATELY = {
    "packets_per_s": "packets a second over the last ten seconds",
    "lag_p50_ms": "receive time minus exchange time of new trades, median of ten seconds; up to 1 s of it is rounding",
    "lag_p99_ms": "the same, 99th percentile",
}
_READINGS = frozenset({"last_data_ms", "last_lag_ms"})
_TOTALS = {
    "stream_messages": "messages sent to stream clients",
    "publish_rounds": "rounds of the publisher, ten a second",
    "publish_missed": "rounds left out because the one before ended too late",
    "stream_conflated": "updates that a newer one replaced before they were sent",
    "stream_closed_slow": "stream clients closed because they did not read",
    "bus_dropped": "messages that the bus gave up",
}
_NOW = {
    "stream_clients": "connected stream clients",
    "loop_lag_ms": "how late the event loop was at the last look, ms",
    "loop_lag_max_ms": "the most it was late in the last minute, ms",
    "loop_lag_max_waited_ms": "of that, how long it was ready to run and had no core, ms",
    "loop_lag_own_max_ms": "the most it was late in the last minute with waiting for a core taken off, ms",
    "gc_pause_max_ms": "the longest garbage collection lately, ms",
}


class ServiceCollector(Collector):
    """Reads every owner at scrape time."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("bt_build", "versions", value=dict(self._services.versions))
        yield from self._subscriptions()
        yield from self._connections()
        yield from self._counters()
        yield from self._store()
        yield from self._gauges(self._services.gauges())

    def _subscriptions(self) -> Iterator[Metric]:
        subscriptions = self._services.subscriptions
        tiers = GaugeMetricFamily("bt_subscriptions", "subscribed instruments by tier", labels=["tier"])
        tiers.add_metric(["TIER_A"], subscriptions.tier_a_count)
        tiers.add_metric(["TIER_B"], subscriptions.tier_b_count)
        yield tiers
        states = GaugeMetricFamily("bt_instruments", "subscribed instruments by state", labels=["state"])
        for state, count in self._services.status.states().items():
            states.add_metric([state], count)
        yield states
        yield GaugeMetricFamily("bt_capacity", "instruments that fit", value=subscriptions.capacity)

    def _connections(self) -> Iterator[Metric]:
        status = self._services.pool.get_status()
        lines: Mapping[str, Mapping[str, object]] = status["per_connection"]  # type: ignore[assignment]
        up = GaugeMetricFamily("bt_connection_up", "1 while the feed connection is up", labels=["connection"])
        carried = GaugeMetricFamily("bt_connection_instruments", "instruments per connection", labels=["connection"])
        readings = {
            name: GaugeMetricFamily(f"bt_connection_{name}", text, labels=["connection"])
            for name, text in _LATELY.items()
        }
        for name, line in lines.items():
            up.add_metric([name], float(bool(line["active"])))
            carried.add_metric([name], float(str(line["instruments"])))
            for field, family in readings.items():
                if line[field] is not None:
                    family.add_metric([name], float(str(line[field])))
        yield up
        yield carried
        yield from readings.values()
        again = self._services.pool.asked_again
        yield CounterMetricFamily(
            "bt_feed_asked_again", "instruments asked for again, nothing having come", value=again
        )
        silent = GaugeMetricFamily(
            "bt_segment_silent", "1 while a segment that trades sends nothing", labels=["segment"]
        )
        quiet = set(self._services.silent_segments())
        for segment in Segment:
            silent.add_metric([segment.name], float(segment.name in quiet))
        yield silent

    def _store(self) -> Iterator[Metric]:
        store = self._services.store
        yield GaugeMetricFamily("bt_store_up", "1 while the database takes reads and writes", value=not store.trouble)
        yield CounterMetricFamily("bt_store_errors", "store operations that failed", value=store.failures)

    def _counters(self) -> Iterator[Metric]:
        counters = self._services.board.buffers.counters
        for field in fields(ConnectionCounters):
            kind = GaugeMetricFamily if field.name in _READINGS else CounterMetricFamily
            family = kind(f"bt_feed_{field.name}", f"{field.name} per connection", labels=["connection"])
            for index, counter in enumerate(counters, start=1):
                family.add_metric([f"ws_{index}"], getattr(counter, field.name))
            yield family

    def _gauges(self, gauges: Gauges) -> Iterator[Metric]:
        for name, text in _TOTALS.items():
            yield CounterMetricFamily(f"bt_{name}", text, value=getattr(gauges, name))
        for name, text in _NOW.items():
            yield GaugeMetricFamily(f"bt_{name}", text, value=getattr(gauges, name))


class MetricsRoute:
    """Renders one registry of its own: nothing global, so that two services in one process do not meet."""

    def __init__(self, services: Services) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(ServiceCollector(services))

    async def metrics(self) -> Response:
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE)
