"""How late the event loop is, how much of that was waiting for a core, and how long garbage collection holds it up."""

from __future__ import annotations

import asyncio
import gc
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from app.ports.clock import Clock
from app.runtime.build import Status

BEAT_S = 0.02  # a stall that ends within a beat is seen shorter by up to this much
REMEMBERED_S = 60.0  # the maximum is that of the last minute


@dataclass(slots=True)
class _Second:
    """The worst beats of one second."""

    lag_ms: float = 0.0
    waited_ms: float = 0.0  # in the beat of that lag
    own_ms: float = 0.0


class Pulse:
    """Writes its readings into the runtime's status. ``core_wait_ms`` is :func:`core_wait_ms`, passed in."""

    def __init__(self, clock: Clock, status: Status, core_wait_ms: Callable[[], float]) -> None:
        self._clock = clock
        self._status = status
        self._core_wait_ms = core_wait_ms
        self._seconds = deque([_Second()], maxlen=int(REMEMBERED_S))
        self._second_began_s = clock.monotonic()
        self._gc_began_s = 0.0

    async def run(self) -> None:
        """Until cancelled."""
        gc.callbacks.append(self._on_gc)
        try:
            waited_ms = self._core_wait_ms()
            while True:
                due_s, before_ms = self._clock.monotonic() + BEAT_S, waited_ms
                await asyncio.sleep(BEAT_S)
                lag_ms = max(0.0, (self._clock.monotonic() - due_s) * 1000)
                waited_ms = self._core_wait_ms()
                self.note(lag_ms, waited_ms - before_ms)
        finally:
            gc.callbacks.remove(self._on_gc)

    def note(self, lag_ms: float, waited_ms: float) -> None:
        """One beat was that late; meanwhile the loop was ready to run and had no core for ``waited_ms``."""
        waited_ms = min(lag_ms, waited_ms)
        second = self._seconds[-1]
        if lag_ms > second.lag_ms:
            second.lag_ms, second.waited_ms = lag_ms, waited_ms
        second.own_ms = max(second.own_ms, lag_ms - waited_ms)
        worst = max(self._seconds, key=lambda each: each.lag_ms)
        status = self._status
        status.loop_lag_ms = lag_ms
        status.loop_lag_max_ms, status.loop_lag_max_waited_ms = worst.lag_ms, worst.waited_ms
        status.loop_lag_own_max_ms = max(each.own_ms for each in self._seconds)
        if self._clock.monotonic() - self._second_began_s >= 1.0:
            self._second_began_s = self._clock.monotonic()
            self._seconds.append(_Second())

    def _on_gc(self, phase: str, _info: Mapping[str, Any]) -> None:
        if phase == "start":
            self._gc_began_s = self._clock.monotonic()
        else:
            pause_ms = (self._clock.monotonic() - self._gc_began_s) * 1000
            self._status.gc_pause_max_ms = max(self._status.gc_pause_max_ms, pause_ms)


def core_wait_ms() -> float:
    """How long the calling thread has been ready to run without a core since it began, ms.

    Linux tells; elsewhere it stays 0. What a hypervisor takes away is not in it.
    """
    try:
        with open("/proc/thread-self/schedstat", "rb", buffering=0) as file:
            return int(file.read(64).split()[1]) / 1e6
    except OSError:
        return 0.0
