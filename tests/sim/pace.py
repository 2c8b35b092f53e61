"""How a simulated day passes: busy spells at full pace, and quiet stretches in which timers ring every few seconds.

People act and faults happen in the spells only, as densely as in a short run. In between the service works on, is
looked at and gets prices, but everything that waits for a second or so waits for five.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from app.sim.loop import SimLoop

QUIET_S = 5
NEVER_S = 1e7  # after the last spell
Spell = tuple[float, float]  # begins, ends: seconds of the run


class Pace:
    """OWNS the loop's slack. Without spells the whole run is busy."""

    def __init__(self, loop: SimLoop, spells: tuple[Spell, ...]) -> None:
        self._loop = loop
        self._spells = spells

    @property
    def is_uneven(self) -> bool:
        return bool(self._spells)

    async def run(self) -> None:
        """Until the last spell is over; when cancelled, what is left of the run has full pace.

        Full pace begins a little before a spell: by then the exchange's step, say, that was put off has come.
        """
        try:
            for begins_s, ends_s in self._spells:
                self._loop.slack_s = QUIET_S
                await asyncio.sleep(begins_s - QUIET_S - self._loop.time())
                self._loop.slack_s = 0
                await asyncio.sleep(ends_s - self._loop.time())
            self._loop.slack_s = QUIET_S if self._spells else 0
            await asyncio.sleep(NEVER_S)
        finally:
            self._loop.slack_s = 0

    def after(self, busy_s: float) -> float:
        """The second of the run by which ``busy_s`` more of its busy time will have passed."""
        return busy_after(self._loop.time(), busy_s, self._spells)

    async def sleep(self, busy_s: float) -> None:
        await asyncio.sleep(self.after(busy_s) - self._loop.time())


def busy_after(at_s: float, busy_s: float, spells: Iterable[Spell]) -> float:
    """When ``busy_s`` of spells will have passed since ``at_s``; without spells all time counts."""
    has_spells = False
    for begins_s, ends_s in spells:
        has_spells = True
        since_s = max(at_s, begins_s)
        if since_s + busy_s <= ends_s:
            return since_s + busy_s
        busy_s -= max(0.0, ends_s - since_s)
    return NEVER_S if has_spells else at_s + busy_s


def joined(spells: Iterable[Spell]) -> tuple[Spell, ...]:
    """In order, those that touch made one."""
    found: list[Spell] = []
    for begins_s, ends_s in sorted(spells):
        if found and begins_s <= found[-1][1] + QUIET_S:
            found[-1] = (found[-1][0], max(found[-1][1], ends_s))
        else:
            found.append((begins_s, ends_s))
    return tuple(found)
