"""P1, P2 and the first half of P13: packets per CPU-second from socket to board."""

from __future__ import annotations

from bench import tick_path
from bench.figures import Figure
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
