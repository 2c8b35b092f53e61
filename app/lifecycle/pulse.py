"""How late the event loop is, and how long garbage collection holds it up."""

from __future__ import annotations

import asyncio
import gc
from collections import deque
from collections.abc import Mapping
from typing import Any

from app.ports.clock import Clock
from app.runtime.build import Status

BEAT_S = 0.1
REMEMBERED_BEATS = 600  # the maximum is that of the last minute


class Pulse:
    """Writes its readings into the runtime's status."""

    def __init__(self, clock: Clock, status: Status) -> None:
        self._clock = clock
        self._status = status
        self._lags = deque[float](maxlen=REMEMBERED_BEATS)
        self._gc_began_s = 0.0

    async def run(self) -> None:
        """Until cancelled."""
        gc.callbacks.append(self._on_gc)
        try:
            while True:
                due_s = self._clock.monotonic() + BEAT_S
                await asyncio.sleep(BEAT_S)
                self._lags.append(max(0.0, (self._clock.monotonic() - due_s) * 1000))
                self._status.loop_lag_ms = self._lags[-1]
                self._status.loop_lag_max_ms = max(self._lags)
        finally:
            gc.callbacks.remove(self._on_gc)

    def _on_gc(self, phase: str, _info: Mapping[str, Any]) -> None:
        if phase == "start":
            self._gc_began_s = self._clock.monotonic()
        else:
            pause_ms = (self._clock.monotonic() - self._gc_began_s) * 1000
            self._status.gc_pause_max_ms = max(self._status.gc_pause_max_ms, pause_ms)
