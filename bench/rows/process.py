"""P11, P12: the service as a process: its memory and its second start."""

from __future__ import annotations

import time

from bench.crowd import crowd
from bench.figures import Figure, p50
from bench.world import World, cpu_s, memory_mb

CLIENTS = 200
TIER_B_LIVE = 8_500


def memory(world: World) -> list[Figure]:
    """P11; the slope over hours is the soak's."""
    full = world.full()
    bare = memory_mb(full.pid)
    clients = 20 if world.quick else CLIENTS
    with crowd(full.service, world, clients=clients, seconds=8.0) as running:
        time.sleep(6.0)
        crowded = memory_mb(full.pid)
        running.wait()
    note = f"{full.total:,} subscriptions"
    return [
        Figure("P11", "resident memory", bare, "MB", note=note),
        Figure("P11", f"the same with {clients} stream clients", crowded, "MB", 250.0, note=note),
    ]


def starts(world: World) -> list[Figure]:
    """P12: a start with everything on disk."""
    service = world.unstarted().start()
    service.stop()
    ready, live, cpu = [], [], []
    for _ in range(1 if world.quick else 3):
        began = time.monotonic()
        service.launch()
        service.wait_ready()
        ready.append(time.monotonic() - began)
        assert service.process is not None
        cpu.append(cpu_s(service.process.pid))
        service.wait_for("live", 60, lambda: service.status()["states"].get("LIVE", 0) >= TIER_B_LIVE)
        live.append(time.monotonic() - began)
        service.stop()
    service.http.close()
    return [
        Figure(
            "P12", "second start to /ready", p50(ready), "s", 3.0, note=f"of it CPU of the service {p50(cpu):.2f} s"
        ),
        Figure("P12", f"second start to {TIER_B_LIVE:,} live", p50(live), "s", 6.0, note="the simulator starts too"),
    ]
