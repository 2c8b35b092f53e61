"""Use cases for callers that cannot await, and for other threads: the doors of the user's document."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from app.core import current

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run one use case from synchronous code and return its answer.

    On the running service's loop where there is one, else on a loop of its own: the service in memory waits for nothing
    outside.

    Raises:
        RuntimeError: called on the service's own loop, which may not wait for itself; await the use case there.
    """
    loop = current.loop()
    if loop is not None and loop.is_running():
        if _running_loop() is loop:
            coroutine.close()
            raise RuntimeError("this door waits; on the service's own event loop await the manager's coroutine instead")
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result()
    if _running_loop() is None:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1) as helper:  # this thread's loop belongs to somebody else
        return helper.submit(asyncio.run, coroutine).result()


def on_loop(call: Callable[..., T], *arguments: Any, **named: Any) -> T:
    """Call on the running service's loop, whichever thread asks; where no service runs, here."""
    loop = current.loop()
    if loop is None or not loop.is_running() or _running_loop() is loop:
        return call(*arguments, **named)
    return asyncio.run_coroutine_threadsafe(_called(call, arguments, named), loop).result()


async def _called(call: Callable[..., T], arguments: tuple[Any, ...], named: dict[str, Any]) -> T:
    return call(*arguments, **named)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
