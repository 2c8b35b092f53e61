"""The slot behind the module-level names: last started wins, its stop empties it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from app.core import blocking, current


class Service:
    """Stands for a runtime; the slot asks nothing of it."""


@pytest.fixture(autouse=True)
def _empty() -> Iterator[None]:
    yield
    current.forget_in_memory()
    assert not current.is_running()


def test_the_last_started_is_the_one_and_its_stop_brings_back_the_other() -> None:
    first, second = Service(), Service()
    current.enter(first, None)
    current.enter(second, None)
    assert current.runtime() is second
    current.leave(second)
    assert current.runtime() is first
    current.leave(first)


def test_stopping_the_older_first_leaves_the_newer() -> None:
    first, second = Service(), Service()
    current.enter(first, None)
    current.enter(second, None)
    current.leave(first)
    assert current.runtime() is second
    current.leave(second)


async def test_a_door_works_from_another_thread_and_refuses_on_the_loop() -> None:
    async def answer() -> int:
        await asyncio.sleep(0)
        return 42

    service = Service()
    current.enter(service, asyncio.get_running_loop())
    try:
        assert await asyncio.to_thread(lambda: blocking.run(answer())) == 42
        with pytest.raises(RuntimeError, match="event loop"):
            blocking.run(answer())
    finally:
        current.leave(service)


async def answer_later() -> str:
    await asyncio.sleep(0)
    return "here"


def test_without_a_service_a_use_case_runs_on_a_loop_of_its_own() -> None:
    assert blocking.run(answer_later()) == "here"


async def test_without_a_service_a_foreign_loop_is_left_alone() -> None:
    assert blocking.run(answer_later()) == "here"
