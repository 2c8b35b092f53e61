"""The simulator as a child process: it says where it listens and never outlives its parent."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from app.core.ids import Mode
from app.dhan.codec import decode, encode_subscribe
from tests.sim.world import RELIANCE, TARGET

ROOT = Path(__file__).resolve().parents[2]

CHILD = textwrap.dedent(
    """
    import os, sys, time
    from app.sim.child import run_child
    from app.sim.server import ServerConfig
    from tests.sim.world import small_world

    class WallClock:
        def now_ms(self):
            return int(time.time() * 1000)

    run_child(ServerConfig(), small_world(), WallClock(), parent_pid=int(sys.argv[1]))
    """
)
PARENT = textwrap.dedent(
    """
    import os, subprocess, sys
    child = subprocess.Popen([sys.executable, "-c", sys.argv[1], str(os.getpid())], stdout=subprocess.PIPE)
    print(child.pid, child.stdout.readline().decode().strip(), flush=True)
    child.wait()
    """
)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
async def test_the_child_serves_and_dies_with_its_parent_even_on_kill_9() -> None:
    command = [sys.executable, "-c", PARENT, CHILD]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as parent:  # noqa: ASYNC220 - a quick fork
        try:
            assert parent.stdout is not None
            line = (await asyncio.to_thread(parent.stdout.readline)).decode()
            pid, told = int(line.split(" ", 1)[0]), json.loads(line.split(" ", 1)[1])
            assert told["control_url"].startswith("http://127.0.0.1:")
            async with connect(told["feed_url"] + TARGET, proxy=None) as socket, asyncio.timeout(20):
                await socket.send(encode_subscribe([RELIANCE], Mode.FULL))
                frame = await socket.recv()
                assert isinstance(frame, bytes)
                assert decode(frame)[0].key == RELIANCE  # type: ignore[union-attr]
            assert is_alive(pid)
        finally:
            parent.send_signal(signal.SIGKILL)
        async with asyncio.timeout(20):
            while is_alive(pid):  # noqa: ASYNC110 - the end of another process's child tells nobody
                await asyncio.sleep(0.05)


async def test_a_child_whose_parent_is_gone_before_it_starts_does_not_serve() -> None:
    ended = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", CHILD, "1"], cwd=ROOT, capture_output=True, timeout=60, check=False
    )
    assert ended.returncode != 0
    assert ended.stdout == b""


async def test_a_child_ends_cleanly_on_sigterm() -> None:
    command, pipe = [sys.executable, "-c", CHILD, str(os.getpid())], subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe) as child:  # noqa: ASYNC220 - a quick fork
        assert child.stdout is not None
        assert (await asyncio.to_thread(child.stdout.readline)).startswith(b'{"feed_url":"ws://127.0.0.1:')
        child.terminate()
        _, complaints = await asyncio.to_thread(child.communicate, timeout=20)
    assert child.returncode == 0
    assert complaints == b""
