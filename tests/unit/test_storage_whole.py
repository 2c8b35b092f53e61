"""``whole``: work that a cancelled caller may not cut in two."""

from __future__ import annotations

import asyncio

import pytest

from app.storage.whole import whole


class Work:
    def __init__(self) -> None:
        self.may_end = asyncio.Event()
        self.ended = False

    async def run(self, outcome: int | Exception = 7) -> int:
        await self.may_end.wait()
        await asyncio.sleep(0)
        self.ended = True
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


async def test_it_gives_the_result() -> None:
    work = Work()
    work.may_end.set()
    assert await whole(work.run()) == 7


async def test_it_gives_the_error() -> None:
    work = Work()
    work.may_end.set()
    with pytest.raises(KeyError):
        await whole(work.run(KeyError("x")))


@pytest.mark.parametrize("outcome", [7, KeyError("nobody hears this")])
@pytest.mark.parametrize("cancels", [1, 3])
async def test_a_cancelled_caller_waits_for_the_end_and_is_then_cancelled(
    outcome: int | Exception, cancels: int
) -> None:
    work = Work()
    caller = asyncio.ensure_future(whole(work.run(outcome)))
    for _ in range(cancels):
        await asyncio.sleep(0)
        caller.cancel()
        await asyncio.sleep(0)
    assert not caller.done()
    assert not work.ended
    work.may_end.set()
    await asyncio.wait([caller])
    assert work.ended
    assert caller.cancelled()


async def test_a_time_limit_of_the_caller_still_counts_as_one() -> None:
    work = Work()
    asyncio.get_running_loop().call_later(0.05, work.may_end.set)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await whole(work.run())
    assert work.ended
