"""Hostile frames through the native decoder under AddressSanitizer: ``python -m tests.native_fuzz --seconds 30``.

Compiles a sanitized copy apart from the one that serves, starts itself again with the runtime of the sanitizer, and
feeds both the decoder directly (each frame in a block of exactly its size) and the listener over a real socket. Any
byte read or written out of bounds ends the process; at the end the boards must equal the pure decoder's.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import os
import random
import subprocess
import sys
import tempfile
import time
from array import array
from pathlib import Path

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect, ws_create_server

from app.dhan import native_build
from app.dhan.decoder import write_frame
from tests.fixtures.boards import CONNECTIONS, NOW_MS, new_buffers, random_frame, state_of

MODULE = "app.dhan._native"
RUNTIMES = ("libasan.so", "libubsan.so")


def hostile(rng: random.Random, now_ms: int) -> bytes:
    frame = bytearray(random_frame(rng, now_ms))
    for _ in range(rng.choice((0, 0, 1, 3, 8))):
        if frame:
            frame[rng.randrange(len(frame))] = rng.randrange(256)
    return bytes(frame) if rng.random() < 0.9 else rng.randbytes(rng.randrange(400))


def load(path: Path) -> object:
    spec = importlib.util.spec_from_file_location(MODULE, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE] = module
    spec.loader.exec_module(module)
    return module


def fuzz_decoder(native: object, rng: random.Random, until: float) -> int:
    frames = 0
    while time.monotonic() < until:
        seed = rng.randrange(2**32)
        pure, other = new_buffers(random.Random(seed)), new_buffers(random.Random(seed))
        board, now_ms = native.board_of(other), NOW_MS  # type: ignore[attr-defined]
        for _ in range(500):
            now_ms += rng.choice((0, 1, 900, -500))
            connection, frame = rng.randrange(CONNECTIONS), hostile(rng, now_ms)
            write_frame(pure, connection, frame, now_ms)
            board.write_frame(connection, in_its_own_block(frame), now_ms)
            frames += 1
        assert state_of(other) == state_of(pure), f"seed {seed}"
    return frames


def in_its_own_block(frame: bytes) -> memoryview:
    """Exactly so many bytes: what lies around them is the sanitizer's."""
    return memoryview(array("B", frame))


async def fuzz_listener(native: object, rng: random.Random, until: float) -> int:
    """Stacked frames of all sizes and kinds in few large reads, so that the look ahead sees every shape of tail."""
    buffers = new_buffers(rng)
    board = native.board_of(buffers)  # type: ignore[attr-defined]
    kinds = (WSMsgType.BINARY,) * 8 + (WSMsgType.TEXT, WSMsgType.PING)
    served: list[WSTransport] = []

    class Server(WSListener):
        def on_ws_connected(self, transport: WSTransport) -> None:
            served.append(transport)

    class Other(WSListener):
        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            """Text and pings."""

    other = Other()
    server = await ws_create_server(lambda _request: Server(), "127.0.0.1", 0)
    url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    sent = 0
    while time.monotonic() < until:
        transport, _ = await ws_connect(
            lambda _request, _response: native.Listener(board, 0, lambda: NOW_MS, other),  # type: ignore[attr-defined]
            url,
            enable_auto_pong=False,
        )
        await asyncio.sleep(0)
        for _ in range(300):
            kind = rng.choice(kinds)
            payload = hostile(rng, NOW_MS)[: 125 if kind == WSMsgType.PING else None]
            served[-1].send(kind, payload if kind != WSMsgType.TEXT else b"text" * rng.randrange(60))
            sent += 1
        await asyncio.sleep(0.01)
        transport.disconnect(graceful=False)
        await transport.wait_disconnected()
    server.close()
    await server.wait_closed()
    assert buffers.counters[0].applied > 0
    return sent


def inside(path: Path, seconds: float, seed: int) -> None:
    native, rng, now = load(path), random.Random(seed), time.monotonic()
    direct = fuzz_decoder(native, rng, now + seconds / 2)
    socketed = asyncio.run(fuzz_listener(native, rng, now + seconds))
    print(f"native decoder under AddressSanitizer: {direct} frames decoded, {socketed} over a socket, seed {seed}")


def runtime_of(name: str) -> str:
    asked = ["cc", f"-print-file-name={name}"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()


def outside(seconds: float, seed: int) -> int:
    problem = native_build.missing()
    runtimes = [] if problem else [runtime_of(name) for name in RUNTIMES]
    if problem is None and not all(os.path.isabs(runtime) for runtime in runtimes):
        problem = "the compiler has no AddressSanitizer"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / native_build.target().name
        problem = problem or native_build.compile_to(path, native_build.SANITIZE)
        if problem:
            print(f"native fuzz: not run, {problem}")
            return 1
        options = {
            "LD_PRELOAD": ":".join(runtimes),
            "ASAN_OPTIONS": "detect_leaks=0",
            "PYTHONMALLOC": "malloc",  # every object its own block, with red zones
        }
        command = [sys.executable, "-m", "tests.native_fuzz", "--inside", str(path), "--seconds", str(seconds)]
        return subprocess.run([*command, "--seed", str(seed)], env=os.environ | options, check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--inside", type=Path)
    given = parser.parse_args()
    if given.inside is None:
        return outside(given.seconds, given.seed)
    inside(given.inside, given.seconds, given.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
