"""A sender that costs next to nothing: frames rendered once, then ``sendall`` of megabytes.

Run as a process of its own. It prints its port, then for each connection one line of JSON: how many packets it sent and
how much of its core that took. A client says in the URL how many it wants and of which share of the instruments
(``?count=…&part=0&parts=5``), and starts the flow by sending anything.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import random
import re
import socket
import struct
import sys
import threading
import time
from itertools import accumulate

from app.core.ids import InstrumentKey, Segment
from app.core.packets import DepthLevel, Full, OpenInterest, Packet, PrevClose, Quote, Ticker, ltt_from_utc
from app.dhan.codec import encode_packet

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CHUNK_FRAMES = 25_000
MIXES = {
    "production": ((0.99, "full"), (0.01, "quote")),
    "historical": ((0.30, "ticker"), (0.40, "quote"), (0.05, "oi"), (0.01, "prev_close"), (0.24, "full")),
}


def keys(number: int) -> list[InstrumentKey]:
    return [InstrumentKey(Segment.NSE_FNO, 35_000 + 7 * n) for n in range(number)]


def packet(rng: random.Random, kind: str, key: InstrumentKey, ltt: int) -> Packet:
    price = round(rng.uniform(1, 25_000), 1)
    trade = (price, 75, ltt, price, 100_000, 5_000, 6_000)
    day = (price, price, price, price)
    match kind:
        case "ticker":
            return Ticker(key, price, ltt)
        case "quote":
            return Quote(key, *trade, *day)
        case "oi":
            return OpenInterest(key, 1_000_000)
        case "prev_close":
            return PrevClose(key, price, 1_000_000)
    levels = tuple(DepthLevel(75, 150, 1, 2, price - i, price + i) for i in range(1, 6))
    return Full(key, *trade, 1_000_000, 1_100_000, 900_000, *day, depth=levels)


def frames(mix: str, instruments: int, seed: int = 1) -> tuple[list[bytes], list[int]]:
    """Payloads in random order of instruments, each as often as any other; and the instruments' numbers."""
    rng = random.Random(seed)
    shares, kinds = zip(*MIXES[mix], strict=True)
    listed = keys(instruments)
    ltt = ltt_from_utc(time.time()) - 5
    numbers = [number % instruments for number in range(CHUNK_FRAMES)]
    rng.shuffle(numbers)
    drawn = rng.choices(kinds, shares, k=CHUNK_FRAMES)
    made = [packet(rng, kind, listed[number], ltt) for kind, number in zip(drawn, numbers, strict=True)]
    return [encode_packet(each) for each in made], numbers


def framed(payload: bytes) -> bytes:
    size = len(payload)
    return (struct.pack(">BB", 0x82, size) if size < 126 else struct.pack(">BBH", 0x82, 126, size)) + payload


def serve(connection: socket.socket, payloads: list[bytes], numbers: list[int]) -> None:
    with connection:
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(4096)
        nonce = re.search(rb"(?i)sec-websocket-key: *(\S+)", head)
        asked = [re.search(rb"[?&]%b=(\d+)" % name, head) for name in (b"count", b"part", b"parts")]
        assert nonce is not None
        wanted, part, parts = (int(found[1]) for found in asked if found is not None)
        share = [framed(each) for each, number in zip(payloads, numbers, strict=True) if number % parts == part]
        ends, wire = list(accumulate(map(len, share))), b"".join(share)
        accept = base64.b64encode(hashlib.sha1(nonce[1] + GUID.encode()).digest()).decode()
        answer = (
            f"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        )
        connection.sendall(answer.encode())
        connection.recv(65536)
        left, cpu = wanted, time.thread_time()
        while left > 0:
            now = min(left, len(ends))
            connection.sendall(memoryview(wire)[: ends[now - 1]])
            left -= now
        print(json.dumps({"packets": wanted, "cpu_s": time.thread_time() - cpu}), flush=True)
        while connection.recv(65536):
            pass


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mix", choices=MIXES, default="production")
    parser.add_argument("--instruments", type=int, default=25_000)
    parser.add_argument("--core", type=int, default=-1)
    given = parser.parse_args()
    if given.core >= 0:
        os.sched_setaffinity(0, {given.core})
    payloads, numbers = frames(given.mix, given.instruments)
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        while True:
            connection, _ = server.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=serve, args=(connection, payloads, numbers), daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
