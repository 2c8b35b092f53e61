"""Doors: module-level names that stand for the owners of whichever service runs when they are used (decision 2)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from app.core import current


class Door:
    """Stands for one owner of the running service, and passes for one of its ``kind``.

    State belongs to the service's event loop: a call from another thread, as a scheduler's job makes it, runs there.
    The methods named in ``waiting`` see to that themselves.
    """

    __slots__ = ("_kind", "_pick", "_waiting")

    def __init__(self, kind: type, pick: Callable[[Any], Any], waiting: Collection[str] = ()) -> None:
        self._kind = kind
        self._pick = pick
        self._waiting = frozenset(waiting)

    @property  # type: ignore[misc]  # for isinstance, without asking any service
    def __class__(self) -> type:
        return self._kind

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # whoever looks an object over must not build a service by that
            raise AttributeError(name)
        found = getattr(self._pick(current.runtime()), name)
        if not callable(found) or name in self._waiting or inspect.iscoroutinefunction(found):
            return found
        return partial(current.call, found)

    def __repr__(self) -> str:
        return f"<door to the running service's {self._kind.__name__}>"
