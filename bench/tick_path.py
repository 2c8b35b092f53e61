"""Packets per CPU-second from socket to board: the service's two decoders and its peers, on the same bytes in one run.

``python -m bench.tick_path`` prints a table. Compare the ratios of one run; absolute figures are the machine's. A row
whose sender was over 80 % busy is void: the sender was the limit.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from struct import Struct

import uvloop
import websockets
from dhanhq.marketfeed import MarketFeed

from app.core.ids import InstrumentKey, Mode
from app.dhan.live_feed import DhanFeed
from app.dhan.native import Wanted, load_native
from app.ports.feed import TickBuffers
from bench.wire_sender import MIXES, keys

INSTRUMENTS = 25_000
BUSY_MAX = 0.8
RESULTS = Path(__file__).parent / "results"

Client = Callable[[str, int, int], Awaitable[float]]
"""Takes URL, packets and connections; answers the CPU seconds from the first packet to the last."""


class MachineClock:
    def now(self) -> datetime:
        return datetime.now().astimezone()

    def now_ms(self) -> int:
        return int(time.time() * 1000)

    def monotonic(self) -> float:
        return time.monotonic()


class NoCredentials:
    client_id = "1"

    async def token(self) -> str:
        return "t"

    def refused(self, token: str) -> None:
        raise AssertionError(token)


def asking(url: str, packets: int, part: int, parts: int) -> str:
    return f"{url}?count={packets // parts}&part={part}&parts={parts}"


async def sdk(url: str, packets: int, connections: int) -> float:
    """The official SDK's own receive and decode, its answer kept by key."""
    board: dict[tuple[int, int], dict[str, object]] = {}

    async def one(part: int) -> None:
        feed = MarketFeed.__new__(MarketFeed)
        async with websockets.connect(asking(url, packets, part, connections)) as feed.ws:
            await feed.ws.send("go")
            for _ in range(packets // connections):
                data = await feed.get_instrument_data()
                board[data["exchange_segment"], data["security_id"]] = data

    started = time.process_time()
    await asyncio.gather(*(one(part) for part in range(connections)))
    return time.process_time() - started


FULL = Struct("<BHBIfHIfIIIIIIffff" + "IIHHff" * 5)
LAYOUTS = {
    2: Struct("<BHBIfI"),
    4: Struct("<BHBIfHIfIIIffff"),
    5: Struct("<BHBII"),
    6: Struct("<BHBIfI"),
    8: FULL,
}


async def websockets_struct(url: str, packets: int, connections: int) -> float:
    """What a careful programmer writes first: websockets, one struct per packet, the tuple kept by key."""
    board: dict[tuple[int, int], tuple[object, ...]] = {}

    async def one(part: int) -> None:
        async with websockets.connect(asking(url, packets, part, connections), compression=None) as ws:
            await ws.send("go")
            for _ in range(packets // connections):
                frame = await ws.recv()
                assert isinstance(frame, bytes)
                values = LAYOUTS[frame[0]].unpack(frame)
                board[values[2], values[3]] = values

    started = time.process_time()
    await asyncio.gather(*(one(part) for part in range(connections)))
    return time.process_time() - started


def feed_for(buffers: TickBuffers, url: str, native: Wanted) -> DhanFeed:
    return DhanFeed(buffers, url, NoCredentials(), MachineClock(), native=native)


def service(native: Wanted, instruments: int = INSTRUMENTS) -> Client:
    """This service's feed client and board."""

    async def run(url: str, packets: int, connections: int) -> float:
        buffers = TickBuffers(slots=32_768, connections=connections)
        listed = keys(instruments)
        lines = [
            await feed_for(buffers, asking(url, packets, n, connections), native).connect(n) for n in range(connections)
        ]
        for slot, key in enumerate(listed):
            buffers.slot_of[key.packed] = slot
            buffers.socket_of[slot] = slot % connections
        wanted = packets // connections * connections
        started = time.process_time()
        for line in lines:
            await line.subscribe([InstrumentKey(listed[0].segment, 1)], Mode.FULL)
        while sum(entry.packets for entry in buffers.counters) < wanted:  # noqa: ASYNC110 - the board tells nobody
            await asyncio.sleep(0.002)
        spent = time.process_time() - started
        applied = sum(entry.applied for entry in buffers.counters)
        assert applied == wanted, f"{applied} of {wanted}"
        for line in lines:
            await line.close()
        return spent

    return run


@dataclass
class Contender:
    name: str
    client: Client
    packets: int
    rates: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)


def contenders(scale: float) -> list[Contender]:
    found = [
        Contender("dhanhq SDK", sdk, int(20_000 * scale)),
        Contender("websockets + struct", websockets_struct, int(50_000 * scale)),
        Contender("service, pure Python", service("0"), int(150_000 * scale)),
    ]
    if load_native("auto")[0] is not None:
        found.append(Contender("service, native", service("1"), int(4_000_000 * scale)))
    return found


@contextmanager
def sender(mix: str, core: int, instruments: int = INSTRUMENTS) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    command = [sys.executable, "-m", "bench.wire_sender", "--mix", mix, "--core", str(core)]
    command += ["--instruments", str(instruments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"ws://127.0.0.1:{int(process.stdout.readline())}/", process
        process.terminate()


def measure(mix: str, connections: int, rounds: int, scale: float) -> list[dict[str, object]]:
    """Alternate the contenders for some rounds; the median of each counts."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[0]})
    racers = contenders(scale)
    with sender(mix, cores[-1]) as (url, process):
        assert process.stdout is not None
        for _ in range(rounds):
            for racer in racers:
                started = time.perf_counter()
                spent = uvloop.run(racer.client(url, racer.packets, connections))
                wall = time.perf_counter() - started
                reports = [json.loads(process.stdout.readline()) for _ in range(connections)]
                racer.rates.append(racer.packets / spent)
                racer.busy.append(sum(report["cpu_s"] for report in reports) / wall)
    os.sched_setaffinity(0, cores)
    base = {racer.name: statistics.median(racer.rates) for racer in racers}
    return [
        {
            "mix": mix,
            "connections": connections,
            "name": racer.name,
            "packets_per_cpu_s": round(base[racer.name]),
            "times_sdk": round(base[racer.name] / base["dhanhq SDK"], 1),
            "times_websockets": round(base[racer.name] / base["websockets + struct"], 1),
            "sender_busy": round(statistics.median(racer.busy), 2),
            "void": statistics.median(racer.busy) > BUSY_MAX,
        }
        for racer in racers
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--mix", choices=MIXES, nargs="+", default=list(MIXES))
    given = parser.parse_args()
    rows = [
        row
        for mix in given.mix
        for connections in given.connections
        for row in measure(mix, connections, given.rounds, given.scale)
    ]
    names = ("websockets", "picows", "dhanhq", "uvloop")
    machine = {"python": platform.python_version(), "cores": os.cpu_count(), **{name: version(name) for name in names}}
    print(" · ".join(f"{name} {value}" for name, value in machine.items()))
    print(
        f"{'load':<12}{'sockets':>8}  {'client':<24}{'packets/CPU-s':>15}{'x SDK':>8}{'x websockets':>14}{'sender':>8}"
    )
    for row in rows:
        print(
            f"{row['mix']:<12}{row['connections']:>8}  {row['name']:<24}{row['packets_per_cpu_s']:>15,}"
            f"{row['times_sdk']:>8}{row['times_websockets']:>14}{row['sender_busy']:>8}"
            + ("  void" if row["void"] else "")
        )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "tick_path.json").write_text(json.dumps({"machine": machine, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
