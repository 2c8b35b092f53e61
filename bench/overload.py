"""More requests than the service takes, while screens watch: ``python -m bench.overload``.

Stream clients are measured without and with a mob of callers in one run: some read, some add and remove. Every answer
to a write is kept, and at the end the lists must be what was answered.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from bench.crowd import crowd
from bench.figures import Figure, p50, p99, table
from bench.world import Filled, World, cpu_s
from tests.service import ROOT

SCREENS, TOPICS, HZ = 20, 20, 10
SECONDS = 15.0
CALLERS = 800  # the service answers 512 at once
WRITER_EVERY = 8
RETRY_S = 0.2  # a polite caller would wait for what Retry-After says
READ = "/api/v2/subscriptions/status"
OK, NOT_FOUND, CONFLICT, OVERLOADED = 200, 404, 409, 503
Report = dict[str, Any]


@dataclass
class Mob:
    """OWNS what the callers were told. ``held`` are the users whose entry is there, by the answers."""

    port: int
    ends_s: float
    statuses: Counter[int] = field(default_factory=Counter)
    answered_ms: list[float] = field(default_factory=list)
    refused_ms: list[float] = field(default_factory=list)
    held: set[int] = field(default_factory=set)
    unknown: set[int] = field(default_factory=set)  # of a user's last write no answer came

    async def caller(self, number: int) -> None:
        """One after another on a kept connection, anew where that was hung up."""
        user_id = number if number % WRITER_EVERY == 0 else None
        while time.monotonic() < self.ends_s:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                try:
                    while time.monotonic() < self.ends_s:
                        await self._ask(reader, writer, user_id)
                finally:
                    writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, user_id: int | None) -> None:
        began = time.monotonic()
        if user_id is None:
            writer.write(_request("GET", READ))
            status = await _status(reader)
        else:
            status = await self._write(reader, writer, user_id)
        self.statuses[status] += 1
        taken_ms = (time.monotonic() - began) * 1000
        (self.refused_ms if status == OVERLOADED else self.answered_ms).append(taken_ms)
        if status == OVERLOADED:
            await asyncio.sleep(RETRY_S)

    async def _write(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, user_id: int) -> int:
        """Add the one entry of the user, or remove it where it is there."""
        is_held = user_id in self.held
        body = {"user_id": user_id, "symbol": "RELIANCE", "instrument_type": "EQUITY"}
        self.unknown.add(user_id)
        writer.write(_request("POST", f"/api/v2/watchlist/{'remove' if is_held else 'add'}", body))
        status = await _status(reader)
        self.unknown.discard(user_id)
        if status in (OK, NOT_FOUND, CONFLICT):  # the last two: it was done, and the answer did not arrive
            self.held.symmetric_difference_update({user_id})
        return status

    def report(self) -> Report:
        return {
            "statuses": dict(sorted(self.statuses.items())),
            "answered_ms": [p50(self.answered_ms), p99(self.answered_ms)],
            "refused_ms": [p50(self.refused_ms), p99(self.refused_ms)] if self.refused_ms else None,
            "held": sorted(self.held),
            "unknown": sorted(self.unknown),
        }


def _request(method: str, path: str, body: object = None) -> bytes:
    raw = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(raw)}\r\n\r\n".encode() + raw


async def _status(reader: asyncio.StreamReader) -> int:
    """Of the next answer, which is read to its end."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    await reader.readexactly(int(head.partition("content-length:")[2].partition("\r\n")[0]))
    return int(head.split(" ", 2)[1])


async def _crowd_in(port: int, callers: int, seconds: float) -> Report:
    mob = Mob(port, time.monotonic() + seconds)
    await asyncio.gather(*(mob.caller(number) for number in range(1, callers + 1)))
    return mob.report()


def overload(world: World, callers: int, seconds: float) -> list[Figure]:
    """What the screens get, without the mob and with it; what the mob got; what is in the lists at the end."""
    with world.service() as one:
        one.wait_live(8_000)
        quiet = _watched(one, world, seconds)
        with _mob(one.service.port, callers, seconds + 10.0) as mob:
            pressed = _watched(one, world, seconds)
            told: Report = json.loads(mob.communicate()[0])
        wrong = _wrong(one, told, callers)
    return [*_screens("alone", quiet), *_screens(f"beside {callers} callers", pressed), *_callers(told, wrong)]


def _watched(one: Filled, world: World, seconds: float) -> Report:
    packets, used, began = one.metric("bt_feed_applied_total"), cpu_s(one.pid), time.monotonic()
    with crowd(one.service, world, clients=SCREENS, seconds=seconds, topics=TOPICS) as running:
        report = running.wait()
    taken = time.monotonic() - began
    packets = one.metric("bt_feed_applied_total") - packets
    return report | {"packets_s": packets / taken, "cores": (cpu_s(one.pid) - used) / taken}


@contextmanager
def _mob(port: int, callers: int, seconds: float) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "bench.overload", "--mob", str(port)]
    command += ["--callers", str(callers), "--seconds", str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        yield process
        process.terminate()


def _wrong(one: Filled, told: Report, callers: int) -> int:
    """Users whose list is not what they were answered."""
    writers = set(range(WRITER_EVERY, callers + 1, WRITER_EVERY)) - set(told["unknown"])
    lists = {user_id: one.caller.get(f"/api/v2/watchlist/{user_id}")["watchlist"] for user_id in writers}
    return sum(bool(entries) != (user_id in told["held"]) for user_id, entries in lists.items())


def _screens(where: str, report: Report) -> list[Figure]:
    share = 100 * report["messages"] / (SCREENS * HZ * report["seconds"])
    note = f"{SCREENS} screens; the service used {report['cores']:.2f} cores"
    return [
        Figure("", f"{where}: packets taken in a second", report["packets_s"], "", note=note),
        Figure("", f"{where}: flushes that arrived", share, "%", note=f"{report['gaps']} gaps"),
        Figure("", f"{where}: age on arrival, p99", report["p99_ms"], "ms", note=f"p50 {report['p50_ms']:.1f} ms"),
    ]


def _callers(told: Report, wrong: int) -> list[Figure]:
    statuses = {int(status): number for status, number in told["statuses"].items()}
    refused = statuses.get(OVERLOADED, 0)
    both = told["refused_ms"] or (None, None)
    return [
        Figure("", "requests answered", sum(statuses.values()) - refused, "", note=str(statuses)),
        Figure("", "the same, p99", told["answered_ms"][1], "ms", note=f"p50 {told['answered_ms'][0]:.0f} ms"),
        Figure("", "refused with 503", refused, "", note="" if both[1] is None else f"p99 {both[1]:.0f} ms"),
        Figure("", "users whose list is not what was answered", wrong, "", 0.0, note=f"{len(told['held'])} hold it"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.overload", description=__doc__)
    parser.add_argument("--callers", type=int, default=CALLERS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--mob", type=int, metavar="PORT", help="be the callers of a service that runs already")
    given = parser.parse_args()
    if given.mob is not None:
        print(json.dumps(asyncio.run(_crowd_in(given.mob, given.callers, given.seconds))), flush=True)
        return
    world = World(quick=False, say=lambda text: None)
    try:
        Console(width=None if os.isatty(1) else 200).print(table(overload(world, given.callers, given.seconds)))
    finally:
        world.close()


if __name__ == "__main__":
    main()
