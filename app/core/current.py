"""The one slot that the last started runtime fills and its stop empties (decision 0002).

The user's document asks for module-level names (contract, section 8). They are thin doors: each asks this slot for the
running service and calls its owner. Where no service runs in this process, one is built in memory on first use.
"""

from __future__ import annotations

import importlib
from typing import Any

_stack: list[tuple[Any, Any]] = []
_in_memory: list[Any] = []


def enter(runtime: Any, loop: Any) -> None:
    """Make ``runtime`` the one that the doors open to; ``loop`` is the event loop it lives on, if any."""
    _stack.append((runtime, loop))


def leave(runtime: Any) -> None:
    """Take ``runtime`` out, whichever others have started since."""
    _stack[:] = [pair for pair in _stack if pair[0] is not runtime]


def is_running() -> bool:
    return bool(_stack)


def loop() -> Any:
    """The event loop of the running service; None where none runs."""
    return _stack[-1][1] if _stack else None


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
