"""The one slot that the last started runtime fills and its stop empties (decision 0002).

The user's document asks for module-level names (contract, section 8). They are thin doors: each asks this slot for the
running service and calls its owner. Where no service runs in this process, one is built in memory on first use.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any


def _here(call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    return call(*arguments, **named)


_stack: list[tuple[Any, Any, Callable[..., Any]]] = []
_in_memory: list[Any] = []


def enter(runtime: Any, loop: Any, call: Callable[..., Any] = _here) -> None:
    """Make ``runtime`` the one that the doors open to.

    ``loop`` is the event loop it lives on, if any, and ``call(function, ...)`` calls there from any thread.
    """
    _stack.append((runtime, loop, call))


def leave(runtime: Any) -> None:
    """Take ``runtime`` out, whichever others have started since."""
    _stack[:] = [entry for entry in _stack if entry[0] is not runtime]


def is_running() -> bool:
    return bool(_stack)


def loop() -> Any:
    """The event loop of the running service; None where none runs."""
    return _stack[-1][1] if _stack else None


def call(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Call on the event loop of the running service, whichever thread asks; where none runs, here."""
    return (_stack[-1][2] if _stack else _here)(function, *arguments, **named)


def runtime() -> Any:
    """The running service, else one in memory: simulated date and master, no sockets."""
    if _stack:
        return _stack[-1][0]
    if not _in_memory:
        # By name: core stands below the composition root and may not know it.
        _in_memory.append(importlib.import_module("app.runtime.in_memory").started_in_memory())
    return _in_memory[0]


def forget_in_memory() -> None:
    """Drop the lazily built service, so that the next door builds a new one."""
    _in_memory.clear()
