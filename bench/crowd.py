"""Many stream clients in a process of their own: they read frame headers, count, and time how old each frame is.

It prints one line once every client has its first frame, and one line of JSON at the end. Clients that stall stop
reading after their first frame.
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

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from app.core.ids import format_expiry
from app.market.tiers import DEFAULT_FILE, always_on, parse_universe
from bench.figures import p50, p99
from bench.world import World, cpu_s
from tests.service import LITERAL_DAY, ROOT, Service

HEADER = struct.Struct("<dd")  # seq, at_ms, from offset 16
HEADER_AT = 16
DAY_MS = 86_400_000
CONNECTING_AT_ONCE = 50
START_TIMEOUT_S = 60.0


@dataclass
class Tally:
    """What all clients saw."""

    messages: int = 0
    octets: int = 0
    gaps: int = 0
    started: int = 0
    lost: int = 0
    ages_ms: list[float] = field(default_factory=list)

    def begin(self) -> None:
        self.messages = self.octets = self.gaps = 0
        self.ages_ms.clear()


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

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._tally.lost += 1


async def watch(url: str, topics: Sequence[str], clients: int, stalled: int, seconds: float) -> dict[str, object]:
    """Connect all, wait for the first frames, count for a while."""
    tally = Tally()
    gate = asyncio.Semaphore(CONNECTING_AT_ONCE)
    kept = []

    async def one(number: int) -> None:
        async with gate:
            topic, stalls = topics[number % len(topics)], number >= clients - stalled
            headers = {"Sec-WebSocket-Protocol": "bt.binary.v1"}
            made = await ws_connect(lambda: Reader(tally, topic, stalls=stalls), url, extra_headers=headers)
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
    service: Service, world: World, *, clients: int, seconds: float, stalled: int = 0, topics: int = 20
) -> Iterator[Crowd]:
    """Stream clients on the service."""
    assert service.process is not None
    named = chain_topics(world, topics)
    with started(service.stream_url, service.process.pid, named, clients, seconds, stalled) as running:
        yield running


@contextmanager
def started(
    url: str, pid: int, topics: Sequence[str], clients: int, seconds: float, stalled: int = 0
) -> Iterator[Crowd]:
    """Stream clients on any server; ends with the block."""
    command = [sys.executable, "-m", "bench.crowd", url, *topics, "--clients", str(clients)]
    command += ["--seconds", str(seconds), "--stalled", str(stalled)]
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
    given = parser.parse_args()
    report = uvloop.run(watch(given.url, given.topics, given.clients, given.stalled, given.seconds))
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
