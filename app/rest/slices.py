"""Work that may wait a moment: done in order, in slices that leave the event loop to others."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from app.ports.clock import Clock

T = TypeVar("T")
SLICE_S = 0.002
WAKES_A_TURN = 16  # what a task does once it is woken is not in the slice


class Slices:
    """OWNS the calls put off. Each turn of the loop has some milliseconds of them and wakes a few tasks at the most."""

    def __init__(self, clock: Clock, wakes_a_turn: int = WAKES_A_TURN) -> None:
        self._clock = clock
        self._wakes_a_turn = wakes_a_turn
        self._calls: deque[Callable[[], object]] = deque()
        self._is_planned = False
        self._woken = 0

    def put(self, call: Callable[[], object]) -> None:
        """Call it soon. It must not raise."""
        self._calls.append(call)
        self._plan()

    async def run(self, call: Callable[[], T]) -> T:
        """Wait for one's turn, make the call and give its result, or raise what it raised.

        A call whose task is cancelled while it waits is not made.
        """
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.put(lambda: self._settle(done, call))
        return await done

    async def turn(self) -> None:
        """Wait for one's turn: of many that come at once, some go on in each turn of the loop."""
        await self.run(_nothing)

    def _settle(self, done: asyncio.Future[T], call: Callable[[], T]) -> None:
        if done.done():
            return
        self._woken += 1
        try:
            done.set_result(call())
        except Exception as error:  # it is the caller's
            done.set_exception(error)

    def _plan(self) -> None:
        if not self._is_planned:
            self._is_planned = True
            asyncio.get_running_loop().call_soon(self._serve)

    def _serve(self) -> None:
        self._is_planned = False
        self._woken = 0
        until_s = self._clock.monotonic() + SLICE_S
        try:
            while self._calls and self._woken < self._wakes_a_turn:
                self._calls.popleft()()
                if self._clock.monotonic() >= until_s:
                    break
        finally:
            if self._calls:
                self._plan()


def _nothing() -> None:
    pass
