"""The one slot that the last started runtime fills and its stop empties (decision 0002).

The user's document asks for module-level names (contract, section 8). They are thin doors: each asks this slot for the
running service and calls its owner. Where no service runs in this process, one is built in memory on first use.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_stack: list[tuple[Any, asyncio.AbstractEventLoop | None]] = []
_in_memory: list[Any] = []


def enter(runtime: Any, loop: asyncio.AbstractEventLoop | None) -> None:
    """Make ``runtime`` the one that the doors open to."""
    _stack.append((runtime, loop))


def leave(runtime: Any) -> None:
    """Take ``runtime`` out, whichever others have started since."""
    _stack[:] = [pair for pair in _stack if pair[0] is not runtime]


def is_running() -> bool:
    return bool(_stack)


def runtime() -> Any:
    """The running service, else one in memory: simulated date and master, no sockets."""
    if _stack:
        return _stack[-1][0]
    if not _in_memory:
        # By name: core stands below the composition root and may not know it.
        _in_memory.append(importlib.import_module("app.runtime").build_in_memory())
    return _in_memory[0]


def forget_in_memory() -> None:
    """Drop the lazily built service, so that the next door builds a new one."""
    _in_memory.clear()


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run one use case from synchronous code and return its answer.

    Raises:
        RuntimeError: called on the service's own loop, which may not wait for itself; await the use case there.
    """
    loop = _stack[-1][1] if _stack else None
    if loop is None or not loop.is_running():
        return _run_unsuspended(coroutine)
    if _running_loop() is loop:
        coroutine.close()
        raise RuntimeError("this door waits; on the service's own event loop await the manager's coroutine instead")
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _run_unsuspended(coroutine: Coroutine[Any, Any, T]) -> T:
    """Drive a coroutine that never really waits: the in-memory service has nothing to wait for."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        value: T = stop.value
        return value
    coroutine.close()
    raise RuntimeError("the in-memory service tried to wait")
