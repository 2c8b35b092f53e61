"""P4 and the second half of P13: many stream clients, against a bare sender of as many bytes on the same server."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench.crowd import crowd, started
from bench.figures import Figure
from bench.world import Filled, World, memory_mb
from tests.service import ROOT

TOPICS = 20
STALLED = 20
HZ = 10
DROP_WAIT_S = 3.0
STALLS_REMEMBERED_S = 60.0
Report = dict[str, Any]


def stream(world: World) -> list[Figure]:
    """P4, P13."""
    few, some, many, seconds = (20, 40, 60, 3.0) if world.quick else (20, 200, 1_000, 10.0)
    with world.service() as one:
        one.wait_live(8_000)
        small = _watched(one, world, few, seconds)
        middle = _watched(one, world, some, seconds)
        time.sleep(0.0 if world.quick else STALLS_REMEMBERED_S)  # those of the start are not this row's
        before = memory_mb(one.pid)
        large = _watched(one, world, many, seconds)
        memory = large["memory_mb"] - before
        time.sleep(DROP_WAIT_S)
        stalled = _watched(one, world, many, 6 * seconds, stalled=STALLED)
    octets = round(large["bytes"] / large["messages"])
    bare_few, bare_many = _bare(octets, few, seconds), _bare(octets, many, seconds)
    ours, theirs = _marginal_us(small, large), _marginal_us(bare_few, bare_many)
    grown = _growth((few, some, many), _marginal_us(small, middle), _marginal_us(middle, large))
    return [*_figures(many, large, memory, ours, theirs, octets), *_stalled(many, large, stalled), grown]


def _figures(many: int, large: Report, memory: float, ours: float, theirs: float, octets: int) -> list[Figure]:
    share = 100 * large["messages"] / (many * HZ * large["seconds"])
    stall = f"{large['own_ms']:.1f} ms with waiting for a core taken off; all come and go"
    load = f"{many} clients, the {TOPICS} widest chains, {octets:,} bytes a message; the readers {_busy(large)}"
    return [
        Figure("P4", "flushes that arrived", share, "%", 99.0, at_least=True, note=load),
        Figure("P4", "gaps in the numbers of messages", large["gaps"], "", 0.0),
        Figure("P4", "CPU a message, beyond the first client of a chain", ours, "µs", ratio=ours / theirs, peer="bare"),
        Figure("P4", "CPU a message against a bare ASGI sender", ours / theirs, "x", 1.1, note=f"{theirs:.1f} µs bare"),
        Figure("P4", "age on arrival, p99", large["p99_ms"], "ms", 100.0, note=f"p50 {large['p50_ms']:.1f} ms"),
        Figure("P4", "memory a client", memory / many * 1024, "KB", 64.0),
        Figure("P4", "longest loop stall", large["lag_ms"], "ms", 10.0, note=stall),
    ]


def _stalled(many: int, large: Report, stalled: Report) -> list[Figure]:
    """What some clients that stop reading do to the others; the service cuts them off after half a minute."""
    share = 100 * stalled["messages"] / ((many - STALLED) * HZ * stalled["seconds"])
    load = f"{STALLED} of {many} stopped reading, {stalled['seconds']:.0f} s"
    grown = stalled["memory_mb"] - large["memory_mb"]
    return [
        Figure("P4", "with stalled clients: flushes the others got", share, "%", 99.0, at_least=True, note=load),
        Figure("P4", "with stalled clients: gaps of the others", stalled["gaps"], "", 0.0),
        Figure("P4", "with stalled clients: age on arrival, p99", stalled["p99_ms"], "ms", 100.0),
        Figure("P4", "with stalled clients: memory beside without", grown, "MB", note="of the whole service"),
    ]


def _growth(clients: tuple[int, int, int], lower: float, upper: float) -> Figure:
    """A round's work for all is shared by ever more messages, so that only what one more message costs can tell."""
    few, some, many = clients
    if lower <= 0.0:
        return Figure("P13", "CPU of one more message, few clients to many", None, "", note="too few messages to tell")
    note = f"{lower:.1f} µs from {few} to {some} clients, {upper:.1f} µs from {some} to {many}"
    return Figure("P13", "CPU of one more message, few clients to many", upper / lower, "x", 1.15, note=note)


def _busy(report: Report) -> str:
    return f"{100 * report['busy']:.0f} % busy"


def _marginal_us(small: Report, large: Report) -> float:
    """What one more message costs: both runs have the feed's and the publisher's work in them."""
    rates = [report["messages"] / report["seconds"] for report in (small, large)]
    costs = [report["server_cpu_s"] / report["seconds"] for report in (small, large)]
    return (costs[1] - costs[0]) * 1e6 / (rates[1] - rates[0])


def _watched(one: Filled, world: World, clients: int, seconds: float, stalled: int = 0) -> Report:
    with crowd(one.service, world, clients=clients, seconds=seconds, stalled=stalled, topics=TOPICS) as running:
        report = running.wait()
        lag_ms, own_ms = one.loop_lag_max_ms(), one.metric("bt_loop_lag_own_max_ms")
        return report | {"memory_mb": memory_mb(one.pid), "lag_ms": lag_ms, "own_ms": own_ms}


def _bare(octets: int, clients: int, seconds: float) -> Report:
    with _bare_sender(octets) as (url, pid), started(url, pid, ["bare"], clients, seconds) as running:
        return running.wait()


@contextmanager
def _bare_sender(octets: int) -> Iterator[tuple[str, int]]:
    command = [sys.executable, "-m", "bench.bare_sender", str(octets)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        yield f"ws://127.0.0.1:{int(process.stdout.readline())}/", process.pid
        process.terminate()
