"""P3 and P5: from the exchange's socket to the board and to browsers, at a steady 50,000 packets a second."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import uvloop
import websockets

from app.core.ids import InstrumentKey, Mode
from app.dhan.codec import encode_subscribe
from app.dhan.live_feed import DhanFeed
from app.dhan.native import Wanted, load_native
from app.ports.feed import TickBuffers
from bench.crowd import crowd
from bench.figures import Figure, p50
from bench.paced_sender import STAMP_AT, STAMP_MASK, stamp_us
from bench.tick_path import LAYOUTS, MachineClock, NoCredentials
from bench.wire_sender import keys
from bench.world import World
from tests.service import LITERAL_DAY, ROOT

CONNECTIONS = 5
INSTRUMENTS, RATE = 25_000, 50_000
A_MESSAGE = 100
LOOK_EVERY_S = 0.001
ROWS_A_LOOK = 500  # some 10 µs; all rows at once held the loop for longer than most packets wait
WARM_UP_S = 1.0
Waits = npt.NDArray[np.int64]
"""Microseconds from sending to the board, a sample a packet."""

Client = Callable[[str, int, float], Awaitable[Waits]]
"""Takes URL, instruments and seconds."""


class MicroClock(MachineClock):
    """Tells the feed microseconds for milliseconds: the board then keeps when each row was written, finely."""

    def now_ms(self) -> int:
        return stamp_us()


def _parts(instruments: int) -> list[list[InstrumentKey]]:
    listed = keys(instruments)
    return [listed[part::CONNECTIONS] for part in range(CONNECTIONS)]


def _messages(part: list[InstrumentKey]) -> list[list[InstrumentKey]]:
    return [part[at : at + A_MESSAGE] for at in range(0, len(part), A_MESSAGE)]


def _service(native: Wanted) -> Client:
    """This service's feed client and board. Of each row the newest packet is looked at, many times a second."""

    async def run(url: str, instruments: int, seconds: float) -> Waits:
        buffers = TickBuffers(slots=32_768, connections=CONNECTIONS)
        feed = DhanFeed(buffers, url, NoCredentials(), MicroClock(), native=native)
        lines = [await feed.connect(index) for index in range(CONNECTIONS)]
        for index, part in enumerate(_parts(instruments)):
            for slot, key in enumerate(part, index * len(part)):
                buffers.slot_of[key.packed] = slot
                buffers.socket_of[slot] = index
            for message in _messages(part):
                await lines[index].subscribe(message, Mode.FULL)
        await asyncio.sleep(WARM_UP_S)
        waits = await _watch_rows(buffers.table[:instruments], seconds)
        for line in lines:
            await line.close()
        return waits

    return run


async def _watch_rows(table: npt.NDArray[np.void], seconds: float) -> Waits:
    """Look at some rows a millisecond, round and round."""
    found = []
    seen = table["last_ms"].copy()
    until = time.monotonic() + seconds
    for first in itertools.cycle(range(0, len(table), ROWS_A_LOOK)):
        await asyncio.sleep(LOOK_EVERY_S)
        part = slice(first, first + ROWS_A_LOOK)
        written, sent = table["last_ms"][part].copy(), table["total_buy_qty"][part].astype(np.int64)
        fresh = written != seen[part]
        found.append((written[fresh] - sent[fresh]) & STAMP_MASK)
        seen[part] = written
        if time.monotonic() >= until:
            break
    return np.concatenate(found)


async def _websockets_struct(url: str, instruments: int, seconds: float) -> Waits:
    """websockets, one struct a packet, the tuple kept by key; the same share of its packets is looked at."""
    board: dict[tuple[object, object], tuple[object, ...]] = {}
    found: list[int] = []
    watched_from = time.monotonic() + WARM_UP_S
    until = watched_from + seconds

    async def one(part: list[InstrumentKey]) -> None:
        async with websockets.connect(url, compression=None) as ws:
            for message in _messages(part):
                await ws.send(encode_subscribe(message, Mode.FULL))
            while time.monotonic() < until:
                frame = await ws.recv()
                assert isinstance(frame, bytes)
                values = LAYOUTS[frame[0]].unpack(frame)
                board[values[2], values[3]] = values
                if time.monotonic() > watched_from:
                    sent = int.from_bytes(frame[STAMP_AT : STAMP_AT + 4], "little")
                    found.append((stamp_us() - sent) & STAMP_MASK)

    await asyncio.gather(*map(one, _parts(instruments)))
    return np.array(found, dtype=np.int64)


@contextmanager
def paced(rate: int, instruments: int, *more: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A running paced sender, by URL."""
    command = [sys.executable, "-m", "bench.paced_sender", "--rate", str(rate), "--instruments", str(instruments)]
    with subprocess.Popen([*command, *more], stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        yield f"ws://127.0.0.1:{int(process.stdout.readline())}/", process
        process.terminate()


def told(process: subprocess.Popen[str]) -> tuple[float, float]:
    """Packets a second and busy share of a sender that has been ended, the middle of its seconds."""
    assert process.stdout is not None
    seconds = [json.loads(line) for line in process.stdout]
    return p50([each["packets_per_s"] for each in seconds]), p50([each["busy"] for each in seconds])


def latency(world: World) -> list[Figure]:
    """P3: rounds in turns; the middle round of each counts."""
    rounds, seconds = (1, 2.0) if world.quick else (3, 5.0)
    clients: dict[str, Client] = {"websockets + struct": _websockets_struct}
    if load_native("auto")[0] is not None:
        clients["service, native"] = _service("1")
    clients["service, pure Python"] = _service("0")
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[0]})
    rows: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in clients}
    for _ in range(rounds):
        for name, client in clients.items():
            with paced(RATE, INSTRUMENTS, "--core", str(cores[-1])) as (url, process):
                waits = uvloop.run(client(url, INSTRUMENTS, seconds))
                process.terminate()
                rows[name].append((*np.percentile(waits, (99, 50)).tolist(), *told(process)))
    os.sched_setaffinity(0, cores)
    middle = {name: sorted(each)[len(each) // 2] for name, each in rows.items()}
    peer = middle["websockets + struct"][0]
    figures = [_figure("websockets + struct", *middle.pop("websockets + struct"))]
    for name, row in middle.items():
        target = 0.15 if name == "service, native" else None
        figures += [
            _figure(name, *row),
            Figure("P3", f"{name}, p99 against websockets + struct", row[0] / peer, "x", target),
        ]
    return figures


def _figure(name: str, p99_us: float, p50_us: float, rate: float, busy: float) -> Figure:
    note = f"p50 {p50_us:.0f} µs; {rate:,.0f} packets/s, the sender {100 * busy:.0f} % busy"
    return Figure("P3", f"socket to board, p99, {name}", p99_us, "µs", note=note)


CLIENTS, PUBLISH_MS, SLACK_MS = 200, 100.0, 25.0
NOBODY = "http://127.0.0.1:9"


def to_browsers(world: World) -> list[Figure]:
    """P5: the whole service on the paced sender as its exchange, filled; clients tell how old packets are."""
    if not list(world.masters.glob("*.csv")):
        world.unstarted().start().stop()  # makes the master
    master = next(world.masters.glob("*.csv"))
    with paced(RATE, 1, "--day", LITERAL_DAY) as (url, process):
        settings = {
            "BT_FEED": "dhan",
            "DHAN_CLIENT_ID": "1",
            "DHAN_ACCESS_TOKEN": "t",
            "DHAN_FEED_URL": url.rstrip("/"),
            "DHAN_API_URL": NOBODY,
            "BT_INSTRUMENT_MASTER": str(master),
        }
        with world.service(**settings) as one:
            one.service.wait_for("the always-on universe", 120, lambda: one.total >= 8_000)
            one.fill(world.fullness, world.chains(), lambda share: None)
            one.service.wait_for("a packet of each", 60, lambda: not _silent(one.counts()["states"]))
            seconds = 3.0 if world.quick else 15.0
            with crowd(one.service, world, clients=CLIENTS, seconds=seconds, ticks=True) as running:
                report = running.wait()
            total = one.total
        process.terminate()
        rate, busy = told(process)
    note = f"{CLIENTS} clients, {total:,} subscriptions, {rate:,.0f} packets/s, the sender {100 * busy:.0f} % busy"
    note = f"p50 {report['tick_p50_ms']:.1f} ms; {note}; {report['gaps']} gaps"
    target = PUBLISH_MS + SLACK_MS
    return [Figure("P5", "packet sent to browser, p99", report["tick_p99_ms"], "ms", target, note=note)]


def _silent(states: dict[str, int]) -> int:
    return states.get("WANTED", 0) + states.get("SENT", 0)
