"""Quiet stretches of a simulated day: what rings late, and by how much."""

from __future__ import annotations

import asyncio

import pytest

from app.sim.loop import SimLoop
from tests.sim.day import DAY_MINUTES, shape_of
from tests.sim.pace import NEVER_S, QUIET_S, Pace, busy_after, joined

SPELLS = ((10.0, 20.0), (50.0, 80.0))


@pytest.mark.parametrize(
    ("at_s", "busy_s", "then_s"),
    [(0.0, 5.0, 15.0), (12.0, 8.0, 20.0), (12.0, 9.0, 51.0), (30.0, 1.0, 51.0), (79.0, 2.0, NEVER_S)],
)
def test_only_busy_time_passes_for_those_who_act(at_s: float, busy_s: float, then_s: float) -> None:
    assert busy_after(at_s, busy_s, SPELLS) == then_s


def test_without_spells_all_time_is_busy() -> None:
    assert busy_after(3.0, 4.0, ()) == 7.0


def test_spells_that_touch_are_one() -> None:
    assert joined([(50.0, 60.0), (0.0, 10.0), (58.0, 70.0), (12.0, 20.0)]) == ((0.0, 20.0), (50.0, 70.0))


def test_timers_ring_together_in_quiet_stretches_and_on_time_in_spells() -> None:
    ticks: list[float] = []

    async def tick(loop: SimLoop) -> None:
        while True:
            await asyncio.sleep(1.0)
            ticks.append(loop.time())

    async def body(loop: SimLoop) -> None:
        works = [loop.create_task(tick(loop)), loop.create_task(Pace(loop, ((20.0, 30.0),)).run())]
        await asyncio.sleep(0.0)
        begun = loop.time()
        await asyncio.sleep(0.1)  # shorter waits are as long as they are
        assert loop.time() == pytest.approx(begun + 0.1)
        await asyncio.sleep(49.0)
        for work in works:
            work.cancel()
        await asyncio.wait(works)
        assert loop.slack_s == 0

    loop = SimLoop(1)
    loop.run_until_complete(body(loop))
    loop.close()
    quiet = [at for at in ticks if not 20.0 - QUIET_S <= at <= 30.0]
    assert len([at for at in ticks if 20.0 <= at < 30.0]) == 10
    assert all(round(at) % QUIET_S in (0, 1) for at in quiet)
    assert len(quiet) <= 2 + 40 / QUIET_S


def test_faults_of_a_day_come_in_its_busy_spells() -> None:
    shape = shape_of(7, DAY_MINUTES)
    assert len(shape.faults) > 20
    for timed in shape.faults:
        assert any(begins <= timed.at_s <= ends for begins, ends in shape.spells)
    assert sum(ends - begins for begins, ends in shape.spells) > 1_000


def test_one_day_in_25_has_full_pace_throughout() -> None:
    assert [seed for seed in range(1, 76) if not shape_of(seed, DAY_MINUTES).spells] == [25, 50, 75]
