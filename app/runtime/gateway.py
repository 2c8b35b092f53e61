"""Builds a gateway: clients are served here, every owner of state lives in the process that owns the feed."""

from __future__ import annotations

import os
import random
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.rest.calls import Seal
from app.rest.feed_link import FarAuthenticator, FarTopics, FeedLink
from app.rest.gateway import Gateway, create_gateway
from app.rest.stream_ws import StreamEndpoint, StreamSettings
from app.runtime.clock import ShiftedClock
from app.runtime.places import clock_of, secret_key_of
from app.settings import Settings
from app.stream.hub import Hub

if TYPE_CHECKING:
    from app.bus.nats import NatsBus


@dataclass(frozen=True, slots=True, repr=False)
class GatewayRuntime:
    """Everything one gateway consists of."""

    settings: Settings
    clock: ShiftedClock
    bus: NatsBus
    hub: Hub
    link: FeedLink
    stream: StreamEndpoint
    http: Gateway


def build_gateway(settings: Settings) -> GatewayRuntime:
    """Call every constructor; opens nothing."""
    from app.bus.nats import NatsBus  # late: everybody else does without its client

    assert settings.bt_nats_url is not None
    clock, name = clock_of(settings), _name()
    bus = NatsBus(settings.bt_nats_url, random.Random())  # noqa: S311 - jitter of retries
    link = FeedLink(bus, Seal(secret_key_of(settings)), clock.machine_ms, name)
    topics = FarTopics(link)
    hub = Hub(bus, clock, topics.check, name=name, wide=False)
    stream_settings = StreamSettings(stalled_s=settings.bt_stalled_client_s)
    stream = StreamEndpoint(hub, FarAuthenticator(link), clock, stream_settings, far=topics)

    def gauges() -> Mapping[str, float]:
        return {
            "bt_stream_clients": hub.clients,
            "bt_stream_closed_slow": stream.stalled,
            "bt_bus_dropped": bus.dropped,
            "bt_feed_process_up": link.is_up,
        }

    return GatewayRuntime(settings, clock, bus, hub, link, stream, create_gateway(link, gauges))


def _name() -> str:
    """Unique on the bus, also among the lives of one host; one word of a NATS subject."""
    host = socket.gethostname().replace(".", "-") or "host"
    return f"gateway-{host}-{os.getpid()}-{secrets.token_hex(4)}"
