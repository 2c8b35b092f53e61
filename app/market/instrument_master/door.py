"""The module-level name of the user's document: a thin door to the registry of the running service (decision 0002)."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any, cast

from app.core import current

if TYPE_CHECKING:
    from app.market.instrument_master.registry import InstrumentRegistry


def service_today() -> date:
    """The day by the clock of the running service."""
    today: date = current.runtime().clock.now().date()
    return today


class _Door:
    """Stands for the registry of whichever service runs when it is used."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        return getattr(current.runtime().registry, name)

    def __repr__(self) -> str:
        return "<door to the instrument registry>"


REGISTRY = cast("InstrumentRegistry", _Door())
