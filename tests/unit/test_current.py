"""The slot behind the module-level names: last started wins, its stop empties it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from app.core import blocking, current
from app.core.doors import Door


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


class Owner:
    """An owner of state, which tells the thread it was called on."""

    size = 3

    def thread(self) -> int:
        return threading.get_ident()

    def wait(self) -> int:
        return blocking.run(self.answer())

    async def answer(self) -> int:
        return threading.get_ident()


class Running:
    owner = Owner()


async def test_a_door_calls_on_the_service_s_thread_whoever_asks() -> None:
    door = Door(Owner, lambda service: service.owner, waiting=("wait",))
    service = Running()
    current.enter(service, asyncio.get_running_loop(), blocking.on_loop)
    try:
        here = threading.get_ident()
        assert door.thread() == here
        assert await asyncio.to_thread(lambda: door.thread()) == here
        assert await asyncio.to_thread(lambda: door.wait()) == here
        assert await door.answer() == here
        assert door.size == 3
    finally:
        current.leave(service)


def test_a_door_passes_for_what_it_stands_for_and_opens_only_when_used() -> None:
    def nobody(service: object) -> Owner:
        raise AssertionError("opened")

    door: object = Door(Owner, nobody)
    assert isinstance(door, Owner)
    assert not hasattr(door, "__wrapped__")
    assert not hasattr(door, "_pytestfixturefunction")
    assert repr(door) == "<door to the running service's Owner>"
    assert not current.is_running()
