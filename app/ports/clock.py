"""Time, passed in. Adapters: the shifted wall clock of a service and the virtual clock of simulations."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """The service's one idea of now."""

    def now(self) -> datetime:
        """The present moment, aware, in the service's time zone."""
        ...

    def now_ms(self) -> int:
        """The same moment as epoch milliseconds UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back, for intervals only."""
        ...
