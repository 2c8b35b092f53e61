"""How often somebody may do something; bounded in keys, on the service's own clock.

The `limits` package was weighed: its memory store starts a thread, reads the wall clock and is unbounded in keys.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass, field

from app.ports.clock import Clock


class AttemptLimiter:
    """At most ``limit`` attempts per key within ``window_s``; the least recently used key is forgotten when full."""

    def __init__(self, clock: Clock, limit: int, window_s: float, keys_max: int) -> None:
        self._clock = clock
        self._limit = limit
        self._window_s = window_s
        self._keys_max = keys_max
        self._attempts: OrderedDict[str, deque[float]] = OrderedDict()

    def wait_s(self, key: str) -> float:
        """Seconds until the next attempt of ``key`` is allowed; 0 means now."""
        attempts = self._fresh(key)
        if attempts is None or len(attempts) < self._limit:
            return 0.0
        return attempts[0] + self._window_s - self._clock.monotonic()

    def count(self, key: str) -> None:
        """Note one attempt. Counted before the answer is known, so that many at once do not all slip through."""
        attempts = self._fresh(key)
        if attempts is None:
            attempts = self._attempts[key] = deque(maxlen=self._limit)
        attempts.append(self._clock.monotonic())
        self._attempts.move_to_end(key)
        if len(self._attempts) > self._keys_max:
            self._attempts.popitem(last=False)

    def take_back(self, key: str) -> None:
        """Forget the newest attempt: it was a success."""
        attempts = self._attempts.get(key)
        if attempts:
            attempts.pop()
        if not attempts:
            self._attempts.pop(key, None)

    def forget(self, key: str) -> None:
        self._attempts.pop(key, None)

    def _fresh(self, key: str) -> deque[float] | None:
        attempts = self._attempts.get(key)
        if attempts is None:
            return None
        oldest = self._clock.monotonic() - self._window_s
        while attempts and attempts[0] <= oldest:
            attempts.popleft()
        if not attempts:
            del self._attempts[key]
            return None
        return attempts


@dataclass(slots=True)
class Allowance:
    """A bucket of operations that refills with time: ``rate`` a second, ``burst`` at most."""

    clock: Clock
    rate: float
    burst: float
    left: float = field(init=False)
    at_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.left, self.at_s = self.burst, self.clock.monotonic()

    def spend(self) -> float:
        """Take one out and return 0; with none left, the seconds until there is one."""
        now_s = self.clock.monotonic()
        self.left = min(self.burst, self.left + (now_s - self.at_s) * self.rate)
        self.at_s = now_s
        if self.left < 1.0:
            return (1.0 - self.left) / self.rate
        self.left -= 1.0
        return 0.0


class Allowances:
    """One :class:`Allowance` per key; the least recently used is forgotten, and full again, when there are too many."""

    def __init__(self, clock: Clock, rate: float, burst: float, keys_max: int) -> None:
        self._clock = clock
        self._rate = rate
        self._burst = burst
        self._keys_max = keys_max
        self._by_key: OrderedDict[Hashable, Allowance] = OrderedDict()

    def spend(self, key: Hashable) -> float:
        """As :meth:`Allowance.spend`."""
        held = self._by_key.get(key)
        if held is None:
            held = self._by_key[key] = Allowance(self._clock, self._rate, self._burst)
            if len(self._by_key) > self._keys_max:
                self._by_key.popitem(last=False)
        self._by_key.move_to_end(key)
        return held.spend()
