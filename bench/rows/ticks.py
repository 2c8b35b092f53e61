"""P1, P2 and the first half of P13: packets per CPU-second from socket to board."""

from __future__ import annotations

import os

import uvloop

from app.dhan.native import load_native
from bench import tick_path
from bench.figures import Figure, p50
from bench.world import World

SDK, STRUCT = "dhanhq SDK", "websockets + struct"
NATIVE, PURE = "service, native", "service, pure Python"


def ticks(world: World) -> list[Figure]:
    """P1 and P2 on what production looks like; the historical mix beside it."""
    rounds, scale = (1, 0.05) if world.quick else (3, 1.0)
    found = []
    for mix in ("production",) if world.quick else tick_path.MIXES:
        for connections in (5,) if world.quick else (1, 5):
            rows = {row["name"]: row for row in tick_path.measure(mix, connections, rounds, scale)}
            found += _figures(rows, f"{mix}, {connections} sockets", is_judged=mix == "production")
    return found


def _figures(rows: dict[object, dict[str, object]], load: str, *, is_judged: bool) -> list[Figure]:
    found = []
    for row, name, sdk, struct in (("P1", NATIVE, 100.0, 50.0), ("P2", PURE, 7.0, None)):
        if name not in rows:
            found.append(Figure(row, f"{name}, {load}", None, "", note="no compiler here"))
            continue
        told = rows[name]
        note = f"{int(str(told['packets_per_cpu_s'])):,} packets per CPU-second"
        note += ", VOID: the sender was the limit" if told["void"] else ""
        for peer, key, target in ((SDK, "times_sdk", sdk), (STRUCT, "times_websockets", struct)):
            times = float(str(told[key]))
            judged = target if is_judged and not told["void"] else None
            found.append(Figure(row, f"{name} against {peer}, {load}", times, "x", judged, at_least=True, note=note))
    return found


def growth(world: World) -> list[Figure]:
    """The first half of P13: the same packets over few instruments and over many, in turns."""
    few, many, connections = 1_000, tick_path.INSTRUMENTS, 5
    rounds, packets = (1, 200_000) if world.quick else (5, 4_000_000)
    if load_native("auto")[0] is None:
        return [Figure("P13", "CPU a packet", None, "", note="no compiler here")]
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[0]})
    spent_ns: dict[int, list[float]] = {few: [], many: []}
    for _ in range(rounds):
        for instruments, spent in spent_ns.items():
            client = tick_path.service("1", instruments)
            with tick_path.sender("production", cores[-1], instruments) as (url, _):
                spent.append(uvloop.run(client(url, packets, connections)) * 1e9 / packets)
    os.sched_setaffinity(0, cores)
    small, large = (p50(spent) for spent in spent_ns.values())
    note = f"{small:.0f} to {large:.0f} ns; {few:,} rows fit the processor's cache, {many:,} do not"
    return [Figure("P13", f"CPU a packet, {few:,} to {many:,} instruments", large / small, "x", 1.3, note=note)]
