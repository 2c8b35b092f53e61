"""Exponential backoff with full jitter, reset only after a healthy spell (contract, rule 13)."""

from __future__ import annotations

import random
from dataclasses import dataclass, field


@dataclass(slots=True)
class Backoff:
    """Delays before the next attempt, in seconds.

    The ceiling doubles from ``base_s`` to ``cap_s``; each delay is uniform between the floor and that ceiling.
    """

    rng: random.Random
    base_s: float = 0.25
    cap_s: float = 30.0
    healthy_s: float = 60.0
    attempts: int = field(default=0, init=False)

    def next_delay_s(self, floor_s: float = 0.0) -> float:
        """The delay before the next attempt; ``floor_s`` comes on top, from the policy of the last failure."""
        ceiling_s = min(self.cap_s, self.base_s * 2.0 ** min(self.attempts, 30))
        self.attempts += 1
        return floor_s + self.rng.uniform(0.0, ceiling_s)

    def was_up_for(self, seconds: float) -> None:
        """Forget past failures if the attempt that just ended had been healthy."""
        if seconds >= self.healthy_s:
            self.attempts = 0
