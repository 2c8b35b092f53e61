"""Work put off is done in order and in slices; others have the loop in between."""

from __future__ import annotations

import asyncio
from datetime import datetime

import pytest

from app.rest.slices import SLICE_S, WAKES_A_TURN, Slices


class Ticking:
    """Each look takes half a slice."""

    def __init__(self, step_s: float = SLICE_S / 2) -> None:
        self.step_s = step_s
        self.now_s = 0.0

    def now(self) -> datetime:
        raise AssertionError

    def now_ms(self) -> int:
        raise AssertionError

    def monotonic(self) -> float:
        self.now_s += self.step_s
        return self.now_s


async def turns_until(done: list[int], wanted: int) -> list[int]:
    """How many were done after each turn of the loop."""
    seen = []
    while len(done) < wanted:
        await asyncio.sleep(0)
        seen.append(len(done))
    return seen


async def test_a_turn_has_one_slice_of_calls_in_order() -> None:
    slices, done = Slices(Ticking()), list[int]()
    for number in range(6):
        slices.put(lambda number=number: done.append(number))  # type: ignore[misc]
    seen = await turns_until(done, 6)
    assert done == list(range(6))
    assert max(after - before for before, after in zip([0, *seen], seen, strict=False)) == 2


async def test_a_turn_wakes_a_few_tasks() -> None:
    slices, done = Slices(Ticking(0.0)), list[int]()

    async def one(number: int) -> None:
        await slices.turn()
        done.append(number)

    tasks = [asyncio.ensure_future(one(number)) for number in range(3 * WAKES_A_TURN)]
    seen = await turns_until(done, len(tasks))
    assert done == list(range(len(tasks)))
    assert max(after - before for before, after in zip([0, *seen], seen, strict=False)) == WAKES_A_TURN


async def test_results_and_errors_are_the_callers() -> None:
    slices = Slices(Ticking())
    bad, good = slices.run(lambda: 1 // 0), slices.run(lambda: 7)
    found = await asyncio.gather(bad, good, return_exceptions=True)
    assert isinstance(found[0], ZeroDivisionError)
    assert found[1] == 7


async def test_a_call_whose_task_is_gone_is_not_made() -> None:
    slices, done = Slices(Ticking()), list[int]()
    waiting = asyncio.ensure_future(slices.run(lambda: done.append(1)))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await slices.turn()
    assert done == []
