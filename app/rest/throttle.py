"""Counts attempts per key within a sliding window; bounded, on the service's own clock.

The `limits` package was weighed: its memory store starts a thread, reads the wall clock and is unbounded in keys.
"""

from __future__ import annotations

from collections import OrderedDict, deque

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
