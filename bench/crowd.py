"""Many stream clients in a process of their own: they read frame headers, count, and time how old each frame is.

It prints one line once every client has its first frame, and one line of JSON at the end. Clients that stall stop
reading after their first frame. Where ``paced_sender`` feeds the service, ``--ticks`` also tells how old the packets
were when the client had them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from app.core.ids import format_expiry
from app.market.tiers import DEFAULT_FILE, always_on, parse_universe
from app.stream.fields import FIELD_INDEX, FIELD_KINDS, Kind
from app.stream.frames import HEADER as FRAME_HEAD
from app.stream.frames import NO_COUNT, PRICES_ARE_F64
from bench.figures import p50, p99
from bench.paced_sender import STAMP_MASK, stamp_us
from bench.world import World, cpu_s
from tests.service import LITERAL_DAY, ROOT, Service

HEADER = struct.Struct("<dd")  # seq, at_ms, from offset 16
HEADER_AT = 16
DAY_MS = 86_400_000
CONNECTING_AT_ONCE = 50
START_TIMEOUT_S = 60.0


STAMPS = FIELD_INDEX["total_buy_qty"]  # where the paced sender says when
WIDE = (Kind.SIGNED, Kind.MOMENT)
Stamps = npt.NDArray[np.int64]


class Ticks:
    """When the packets behind each message were sent: read once a message, though many clients get it."""

    def __init__(self) -> None:
        self._newest: dict[int, dict[int, int]] = {}  # by topic, by row
        self._last: dict[int, tuple[float, Stamps]] = {}  # by topic: of which message
        self.ages_us: list[Stamps] = []

    def see(self, view: memoryview) -> None:
        """A client has the message now. A row without a new packet is no packet."""
        now = stamp_us()
        _, _, flags, topic, _, rows, seq, _, mask, _ = FRAME_HEAD.unpack_from(view)
        if self._last.get(topic, (0.0,))[0] != seq:
            self._last[topic] = seq, self._fresh(view, flags, topic, rows, mask)
        self.ages_us.append((now - self._last[topic][1]) & STAMP_MASK)

    def _fresh(self, view: memoryview, flags: int, topic: int, rows: int, mask: int) -> Stamps:
        if not mask >> STAMPS & 1:
            return np.empty(0, dtype=np.int64)
        wide = (*WIDE, Kind.PRICE) if flags & PRICES_ARE_F64 else WIDE
        before = sum(1 for place in range(STAMPS) if mask >> place & 1 and FIELD_KINDS[place] not in wide)
        numbers = np.frombuffer(view, "<u4", rows, FRAME_HEAD.size).tolist()
        stamps = np.frombuffer(view, "<u4", rows, FRAME_HEAD.size + 4 * rows * (1 + before)).tolist()
        newest = self._newest.setdefault(topic, {})
        fresh = [at for row, at in zip(numbers, stamps, strict=True) if at != NO_COUNT and newest.get(row) != at]
        newest.update(zip(numbers, stamps, strict=True))
        return np.array(fresh, dtype=np.int64)


@dataclass
class Tally:
    """What all clients saw."""

    ticks: Ticks | None = None

    messages: int = 0
    octets: int = 0
    gaps: int = 0
    started: int = 0
    lost: int = 0
    ages_ms: list[float] = field(default_factory=list)

    def begin(self) -> None:
        self.messages = self.octets = self.gaps = 0
        self.ages_ms.clear()
        if self.ticks is not None:
            self.ticks.ages_us.clear()


class Reader(WSListener):  # type: ignore[misc]
    """One client."""

    def __init__(self, tally: Tally, topic: str, *, stalls: bool) -> None:
        super().__init__()
        self._tally = tally
        self._topic = topic
        self._stalls = stalls
        self._seq = 0.0

    def on_ws_connected(self, transport: WSTransport) -> None:
        ask = {"op": "subscribe", "topics": [self._topic], "max_rate_hz": 10}
        transport.send(WSMsgType.TEXT, json.dumps(ask).encode())

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type != WSMsgType.BINARY:
            return
        tally = self._tally
        view = frame.get_payload_as_memoryview()
        seq, at_ms = HEADER.unpack_from(view, HEADER_AT)
        if not self._seq:
            tally.started += 1
            if self._stalls:
                transport.underlying_transport.pause_reading()
        elif seq != self._seq + 1:
            tally.gaps += 1
        self._seq = seq
        tally.messages += 1
        tally.octets += len(view)
        tally.ages_ms.append((time.time() * 1000 - at_ms) % DAY_MS)  # the service's day may be another one
        if tally.ticks is not None:
            tally.ticks.see(view)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._tally.lost += 1


async def watch(
    url: str, topics: Sequence[str], clients: int, stalled: int, seconds: float, *, ticks: bool
) -> dict[str, object]:
    """Connect all, wait for the first frames, count for a while."""
    tally = Tally(Ticks() if ticks else None)
    gate = asyncio.Semaphore(CONNECTING_AT_ONCE)
    kept = []

    async def one(number: int) -> None:
        async with gate:
            topic, stalls = topics[number % len(topics)], number >= clients - stalled
            headers = {"Sec-WebSocket-Protocol": "bt.binary.v1"}
            made = await ws_connect(
                lambda: Reader(tally, topic, stalls=stalls),
                url,
                extra_headers=headers,
                websocket_handshake_timeout=START_TIMEOUT_S,
            )
            kept.append(made[0])

    await asyncio.gather(*map(one, range(clients)))
    async with asyncio.timeout(START_TIMEOUT_S):
        while tally.started < clients:  # noqa: ASYNC110 - the readers are no tasks
            await asyncio.sleep(0.05)
    await asyncio.sleep(1.0)
    tally.begin()
    print("ready", flush=True)
    began, cpu = time.monotonic(), time.process_time()
    await asyncio.sleep(seconds)
    taken, used = time.monotonic() - began, time.process_time() - cpu
    report = {
        "messages": tally.messages,
        "bytes": tally.octets,
        "gaps": tally.gaps,
        "lost": tally.lost,
        "seconds": taken,
        "busy": used / taken,
        "p50_ms": p50(tally.ages_ms) if tally.ages_ms else None,
        "p99_ms": p99(tally.ages_ms) if tally.ages_ms else None,
    }
    if tally.ticks is not None:
        ages = np.concatenate(tally.ticks.ages_us) / 1000
        report |= {"tick_p50_ms": float(np.percentile(ages, 50)), "tick_p99_ms": float(np.percentile(ages, 99))}
    for transport in kept:
        transport.disconnect(graceful=False)
    return report


@dataclass
class Crowd:
    """A running crowd, from outside."""

    process: subprocess.Popen[str]
    pid: int
    cpu_at_start: float

    def wait(self) -> dict[str, Any]:
        """The report, with the CPU seconds that the server used meanwhile."""
        assert self.process.stdout is not None
        report: dict[str, Any] = json.loads(self.process.stdout.readline())
        report["server_cpu_s"] = cpu_s(self.pid) - self.cpu_at_start
        return report


def chain_topics(world: World, number: int) -> list[str]:
    """The always-on chains with the most legs: those of the filled service that are live from the start."""
    day = date.fromisoformat(LITERAL_DAY)
    found = always_on(parse_universe(DEFAULT_FILE.read_text("utf-8")), world.registry, day)
    widest = sorted(found.chains, key=lambda chain: -chain.legs)[:number]
    return [f"chain:{chain.exchange}:{chain.symbol}:{format_expiry(chain.expiry)}" for chain in widest]


@contextmanager
def crowd(
    service: Service,
    world: World,
    *,
    clients: int,
    seconds: float,
    stalled: int = 0,
    topics: int = 20,
    ticks: bool = False,
) -> Iterator[Crowd]:
    """Stream clients on the service."""
    assert service.process is not None
    named = chain_topics(world, topics)
    with started(service.stream_url, service.process.pid, named, clients, seconds, stalled, ticks=ticks) as running:
        yield running


@contextmanager
def started(
    url: str, pid: int, topics: Sequence[str], clients: int, seconds: float, stalled: int = 0, *, ticks: bool = False
) -> Iterator[Crowd]:
    """Stream clients on any server; ends with the block."""
    command = [sys.executable, "-m", "bench.crowd", url, *topics, "--clients", str(clients)]
    command += ["--seconds", str(seconds), "--stalled", str(stalled)]
    command += ["--ticks"] if ticks else []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said == "ready\n", f"the crowd did not start: {said!r}"
        yield Crowd(process, pid, cpu_s(pid))
        process.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("topics", nargs="+")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--stalled", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--ticks", action="store_true")
    given = parser.parse_args()
    watching = watch(given.url, given.topics, given.clients, given.stalled, given.seconds, ticks=given.ticks)
    report = uvloop.run(watching)
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
