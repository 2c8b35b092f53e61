"""The simulator as a child process that cannot outlive its parent.

The composition root starts one, reads one JSON line from its standard output (``{"feed_url", "control_url"}``) and
starts it again should it end.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable

import orjson

from app.sim.exchange import InSession, always_open
from app.sim.prices import Directory
from app.sim.server import Clock, ServerConfig, SimulatorServer, running

PARENT_CHECK_S = 0.5
_PR_SET_PDEATHSIG = 1


def bind_to_parent(parent_pid: int) -> None:
    """Ask the kernel to end this process with its parent, even on ``kill -9``; Linux only, elsewhere nothing.

    Raises:
        SystemExit: the parent is gone already.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:  # it went before the kernel knew of our wish
        raise SystemExit("the parent process has ended")


def announce(server: SimulatorServer) -> None:
    """Tell the parent where to connect: one JSON line."""
    line = orjson.dumps({"feed_url": server.feed_url, "control_url": server.control_url})
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


async def serve_child(
    config: ServerConfig,
    directory: Directory,
    clock: Clock,
    in_session: InSession = always_open,
    *,
    parent_pid: int | None = None,
    ready: Callable[[SimulatorServer], None] = announce,
) -> None:
    """Serve until the parent is gone (None: until SIGTERM or SIGINT)."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):  # Windows has no signal handlers on the loop
            loop.add_signal_handler(signum, stopped.set)
    async with running(config, directory, clock, in_session) as server:
        ready(server)
        while not stopped.is_set() and (parent_pid is None or os.getppid() == parent_pid):
            with contextlib.suppress(TimeoutError):  # the watch is for systems without the kernel's help
                await asyncio.wait_for(stopped.wait(), PARENT_CHECK_S)


def run_child(
    config: ServerConfig,
    directory: Directory,
    clock: Clock,
    in_session: InSession = always_open,
    *,
    parent_pid: int | None = None,
) -> None:
    """Body of the child process. ``parent_pid`` is the process to end with, None to stand alone."""
    if parent_pid is not None:
        bind_to_parent(parent_pid)
    asyncio.run(serve_child(config, directory, clock, in_session, parent_pid=parent_pid))
