"""P8, P9, P10: the books of subscriptions: adding to them, cutting them off, reading them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx

from bench.figures import Figure, p50, p99
from bench.world import Filled, World, cpu_s

ONLY_DRIVERS = "[drivers]\nfo_stocks = true\n"  # the shares that say where the chains' windows are
DRIVERS = 150
SOME = 100
WIRE_EVERY = 4
ASK_AGAIN_S = 0.05  # the answer tells when it was: asking more often would only be in the way
CHAIN = "/api/v2/option-chain/NIFTY?expiry={}&quotes=true"
ACTIVE = "/api/v2/subscriptions/active?limit=500"
STATUS = "/api/v2/subscriptions/status"


def adding(world: World) -> list[Figure]:
    """P8: a chain of 50 legs, from the request to the answer (committed), and to the exchange's books (on the wire)."""
    full = world.full()
    some = 20 if world.quick else SOME
    nearly_full = full.add_ms[-some:]
    universe = world.directory / "drivers.toml"
    universe.write_text(ONLY_DRIVERS)
    wire: list[float] = []
    with world.service(BT_TIER_B=str(universe)) as empty:
        chains = world.chains()
        control = control_of(empty)
        empty.wait_live(DRIVERS)
        with httpx.Client(timeout=10) as exchange:
            for number in range(2 * some):
                _add_to_the_wire(empty, exchange, control, next(chains), wire, world, watch=number % WIRE_EVERY == 0)
        few, at_most = empty.add_ms, empty.total
    slope = p50(nearly_full) / p50(few)
    filled = f"up to {full.total:,} subscriptions"
    return [
        Figure("P8", "add of 50 legs over HTTP, committed, p50", p50(few), "ms", 5.0, note=f"0 to {at_most:,}"),
        Figure("P8", "the same, p99", p99(few), "ms", 30.0),
        Figure("P8", "the same, nearly full, p50", p50(nearly_full), "ms", 5.0, note=filled),
        Figure("P8", "the same, nearly full, p99", p99(nearly_full), "ms", 30.0),
        Figure("P8", "nearly full against few, p50", slope, "x", 1.2),
        Figure("P8", "until the exchange has read the subscribe, p50", p50(wire), "ms", 5.0, note="of the last leg"),
        Figure("P8", "the same, p99", p99(wire), "ms", 30.0),
    ]


def _add_to_the_wire(
    filled: Filled,
    exchange: httpx.Client,
    control: str,
    chain: tuple[str, Any],
    wire: list[float],
    world: World,
    *,
    watch: bool,
) -> None:
    began_s = time.monotonic()  # the clock of the simulator's loop, too
    answer = filled.add(1, *chain)
    if not watch:
        return
    pairs = answer["option_chain"]["strikes_ce_pe"].values()
    keys = [str(world.registry.by_token(token).key) for pair in pairs for token in pair.values() if token]
    while len(heard := _heard(exchange, control, keys)) < len(keys):
        time.sleep(ASK_AGAIN_S)
    wire.append((max(heard) - began_s) * 1000)


def _heard(exchange: httpx.Client, control: str, keys: list[str]) -> list[float]:
    """When the simulator read the message that asks for each key, seconds; only of those that it carries by now."""
    told = exchange.get(f"{control}/stats", params={"keys": ",".join(keys)}).json()["keys"].values()
    return [max(of_key["heard_s"].values()) for of_key in told if of_key["heard_s"]]


def control_of(filled: Filled) -> str:
    """The simulator's control port; it starts beside the service."""
    path = filled.service.directory / "data" / "simulator.json"
    filled.service.wait_for("the simulator", 60, path.exists)
    control: str = filled.service.simulator["control_url"]
    return control


def cuts(world: World) -> list[Figure]:
    """P9: all five connections reset at once, several times."""
    full = world.full()
    control = control_of(full)
    sent, live, outage = [], [], []
    with httpx.Client(timeout=10) as exchange:
        for _ in range(1 if world.quick else 3):
            full.wait_live(int(0.99 * full.total))
            cut = time.monotonic()
            exchange.post(f"{control}/faults", json={"kind": "cut"}).raise_for_status()
            one = _recovery(full)
            sent.append(one[0])
            live.append(one[1])
            outage.append(time.monotonic() - cut)
    note = f"{full.total:,} subscriptions; the simulator sends, on the cores of the service"
    return [
        Figure("P9", "five cuts: sockets back to all sent", p50(sent), "s", 1.0, note=note),
        Figure("P9", "five cuts: sockets back to all live", p50(live), "s", 3.0, note="99 % in sight of a packet"),
        Figure("P9", "five cuts: from the cut to all live", p50(outage), "s", note="backoff and handshakes in it"),
    ]


def _recovery(full: Filled) -> tuple[float, float]:
    """Seconds from all sockets up until everything is sent, and until everything is live."""
    path, total = STATUS, full.total
    _until(lambda: full.caller.get(path)["websocket"]["connected_connections"] < 5)
    _until(lambda: full.caller.get(path)["websocket"]["connected_connections"] == 5)
    back = time.monotonic()
    _until(lambda: not full.counts()["states"].get("WANTED"))
    sent = time.monotonic() - back
    _until(lambda: full.live() >= 0.99 * total)
    return sent, time.monotonic() - back


def _until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the service did not get there"
        time.sleep(0.01)


def reads(world: World) -> list[Figure]:
    """P10."""
    full = world.full()
    rounds = 30 if world.quick else 250
    expiry = world.registry.expiries("NIFTY")[0].isoformat()
    note = f"{full.total:,} subscriptions"
    idle = _idle_share(full)
    figures = []
    for what, path, target in (
        ("status", STATUS, 5.0),
        ("active, a page of 500", ACTIVE, 10.0),
        ("chain with quotes, 202 legs", CHAIN.format(expiry), 10.0),
    ):
        began, used = time.monotonic(), cpu_s(full.pid)
        taken = _read_ms(full, path, rounds)
        cpu_ms = (cpu_s(full.pid) - used - idle * (time.monotonic() - began)) * 1000 / rounds
        told = f"p50 {p50(taken):.2f} ms, CPU {cpu_ms:.1f} ms a request; {note}"
        figures.append(Figure("P10", f"{what}, p99", p99(taken), "ms", target, note=told))
    return figures


def _idle_share(full: Filled, seconds: float = 4.0) -> float:
    """What feed and control take of a core with nobody asking."""
    began = cpu_s(full.pid)
    time.sleep(seconds)
    return (cpu_s(full.pid) - began) / seconds


def _read_ms(full: Filled, path: str, rounds: int) -> Sequence[float]:
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        full.caller.get_bytes(path)
        taken.append((time.perf_counter() - began) * 1000)
        time.sleep(0.005)
    return taken
