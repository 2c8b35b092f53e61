"""An exchange that sends at a steady pace, and in each packet when it was sent: for latency.

``python -m bench.paced_sender --rate 50000`` prints its port. It sends Full packets, Quotes of indices, of whatever is
subscribed, round and round, once ``--instruments`` are, and prints a line of JSON every second: packets a second and
how busy it was. The time of sending stands where the total of buyers does: microseconds of the machine's monotonic
clock, below 2**31. Frames are rendered when they are subscribed; sending stamps and writes them by the hundred.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import time
from datetime import date, timedelta
from itertools import accumulate

import numpy as np
import numpy.typing as npt
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

from app.core.ids import InstrumentKey, Mode, Segment
from app.core.packets import ltt_from_utc
from app.dhan.codec import encode_packet
from bench.wire_sender import framed, packet

STAMP_AT = 30  # in a packet: the total of buyers
STAMP_MASK = 0x7FFF_FFFF
STEP_S = 0.001
TELL_EVERY_S = 1.0
_ASKS = {int(mode): mode for mode in Mode}


def stamp_us() -> int:
    """Now, as packets tell it; the same clock in every process of this machine."""
    return time.monotonic_ns() // 1000 & STAMP_MASK


class Line(WSListener):  # type: ignore[misc]
    """One connection and what is subscribed on it."""

    def __init__(self, ltt: int, lines: set[Line]) -> None:
        super().__init__()
        self._rng = random.Random(len(lines))
        self._ltt = ltt
        self._lines = lines
        self._frames: dict[InstrumentKey, bytes] = {}
        self._is_laid_out = False
        self._place = 0
        self.frames = 0

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        self._lines.add(self)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._lines.discard(self)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type != WSMsgType.TEXT:
            return
        told = json.loads(frame.get_payload_as_bytes())
        mode = _ASKS.get(told["RequestCode"])
        for each in told.get("InstrumentList", ()):
            key = InstrumentKey(Segment[each["ExchangeSegment"]], int(each["SecurityId"]))
            if mode is None:
                self._frames.pop(key, None)
            else:
                kind = "full" if mode is Mode.FULL else "quote"
                self._frames[key] = framed(encode_packet(packet(self._rng, kind, key, self._ltt)))
        self.frames = len(self._frames)
        self._is_laid_out = False

    def send(self, number: int) -> None:
        """The next frames in turn."""
        if not self._is_laid_out:
            self._lay_out()
        while number and self.frames:
            first, self._place = self._place, min(self._place + number, self.frames)
            if self._place == self.frames:
                upto, self._place = self.frames, 0
            else:
                upto = self._place
            stamp = np.frombuffer(stamp_us().to_bytes(4, "little"), dtype=np.uint8)
            self._wire[self._stamps[first:upto]] = stamp
            self._transport.underlying_transport.write(self._wire[self._ends[first] : self._ends[upto]].tobytes())
            number -= upto - first

    def _lay_out(self) -> None:
        """Everything subscribed as one run of bytes, in random order."""
        rendered = list(self._frames.values())
        self._rng.shuffle(rendered)
        self._wire = np.frombuffer(bytearray(b"".join(rendered)), dtype=np.uint8)
        self._ends = [0, *accumulate(map(len, rendered))]
        heads = np.array([2 if each[1] < 126 else 4 for each in rendered], dtype=np.intp)
        starts = np.array(self._ends[:-1], dtype=np.intp) + heads + STAMP_AT
        self._stamps: npt.NDArray[np.intp] = starts[:, np.newaxis] + np.arange(4)
        self._is_laid_out, self._place = True, 0


async def pace(lines: set[Line], rate: int, instruments: int) -> None:
    """Send ``rate`` packets a second over all lines, each its share; from when enough is subscribed."""
    while sum(line.frames for line in lines) < instruments:  # noqa: ASYNC110 - lines tell nobody
        await asyncio.sleep(0.01)
    began = told = time.monotonic()
    sent = sent_at_told = 0
    cpu = time.process_time()
    while True:
        now = time.monotonic()
        due = int((now - began) * rate) - sent
        total = sum(line.frames for line in lines)
        for line in list(lines):
            share = due * line.frames // max(1, total)
            line.send(share)
            sent += share
        if not total:
            sent += due  # nobody listens: nothing is owed
        if now - told >= TELL_EVERY_S:
            busy = (time.process_time() - cpu) / (now - told)
            print(json.dumps({"packets_per_s": (sent - sent_at_told) / (now - told), "busy": busy}), flush=True)
            told, sent_at_told, cpu = now, sent, time.process_time()
        await asyncio.sleep(STEP_S)


async def serve(rate: int, instruments: int, day: date | None) -> None:
    lines: set[Line] = set()
    ahead = timedelta() if day is None else day - date.today()
    ltt = ltt_from_utc(time.time() + ahead.total_seconds()) - 60

    def listen(_request: WSUpgradeRequest) -> WSListener:
        return Line(ltt, lines)

    server = await ws_create_server(listen, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await pace(lines, rate, instruments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=50_000)
    parser.add_argument("--instruments", type=int, default=1, help="send nothing before so many are subscribed")
    parser.add_argument("--day", type=date.fromisoformat, help="of the trades; default today")
    parser.add_argument("--core", type=int, default=-1)
    given = parser.parse_args()
    if given.core >= 0:
        os.sched_setaffinity(0, {given.core})
    uvloop.run(serve(given.rate, given.instruments, given.day))


if __name__ == "__main__":
    main()
