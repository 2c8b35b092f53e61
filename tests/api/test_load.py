"""More than the service takes is refused at once and in full form; those inside, and the loop, keep their pace."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from app.rest import limits
from app.rest.load import Turnstile
from app.rest.middleware import BodyLimit
from app.rest.services import LoadLimits
from tests.api.support import HandClock
from tests.api.test_endpoints import ADD
from tests.api.test_errors import problem
from tests.api.world import running_world

STATUS = "/api/v2/subscriptions/status"


class Recorder:
    """An application that answers when it is told to, and an ASGI client that keeps what it was told."""

    def __init__(self) -> None:
        self.begun = 0
        self.may_end = asyncio.Event()
        self.statuses: list[int] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.begun += 1
        await self.may_end.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def note(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.statuses.append(message["status"])


def scope(path: str = STATUS) -> dict[str, Any]:
    return {"type": "http", "method": "POST", "path": path, "headers": []}


async def nothing() -> Message:
    return await asyncio.get_running_loop().create_future()


async def test_requests_above_the_limit_are_refused_at_once_and_probes_are_not(snapshot: Path) -> None:
    async with running_world(snapshot, load=LoadLimits(requests_at_once=4)) as world, world.client() as client:
        answers = await asyncio.gather(*(client.get(path) for path in [*[STATUS] * 40, "/health", "/metrics"]))
        assert [answers.pop().status_code for _ in range(2)] == [200, 200]
        refused = [answer for answer in answers if answer.status_code != 200]
        assert 0 < len(refused) < 40
        for answer in refused:
            problem(answer, 503, "OVERLOADED")
            assert answer.headers["retry-after"] == str(limits.BUSY_RETRY_S)
        assert (await client.get(STATUS)).status_code == 200


async def test_one_request_begins_in_each_turn_of_the_loop() -> None:
    app = Recorder()
    turnstile = Turnstile(app, HandClock(), 100)
    asked = [asyncio.create_task(turnstile(scope(), nothing, app.note)) for _ in range(20)]
    seen = []
    for _ in range(60):
        await asyncio.sleep(0)
        seen.append(app.begun)
    assert seen[-1] == 20
    assert max(after - before for before, after in pairwise(seen)) == 1
    app.may_end.set()
    await asyncio.gather(*asked)
    assert app.statuses == [200] * 20


async def test_a_request_whose_turn_came_too_late_is_not_begun() -> None:
    app, clock = Recorder(), HandClock()
    turnstile = Turnstile(app, clock, 100)
    asked = [asyncio.create_task(turnstile(scope(), nothing, app.note)) for _ in range(3)]
    await asyncio.sleep(0)
    clock.advance(limits.REQUEST_WAITS_S + 1)
    await asyncio.gather(*asked)
    assert (app.begun, app.statuses) == (0, [503] * 3)


async def test_a_place_is_free_again_after_whatever_happened_inside() -> None:
    async def breaks(scope: Scope, receive: Receive, send: Send) -> None:
        raise OSError("broken")

    turnstile = Turnstile(breaks, HandClock(), 1)
    for _ in range(3):
        with pytest.raises(OSError, match="broken"):
            await turnstile(scope(), nothing, Recorder().note)
    app = Recorder()
    waiting = asyncio.create_task(Turnstile(app, HandClock(), 1)(scope(), nothing, app.note))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_user_who_asks_too_often_is_told_when_and_others_do_not_notice(snapshot: Path) -> None:
    load = LoadLimits(requests_a_second=1.0)
    async with running_world(snapshot, auth="required", load=load) as world, world.client() as client:
        _, eager = await world.user("asha")
        _, other = await world.user("ravi")
        codes = Counter([(await client.get(STATUS, headers=eager)).status_code for _ in range(30)])
        assert codes == {200: int(limits.REQUESTS_SAVED_S), 429: 20}
        answer = await client.get(STATUS, headers=eager)
        told = problem(answer, 429, "RATE_LIMITED")
        assert int(answer.headers["retry-after"]) == told["retry_after_s"] == 1
        assert (await client.get(STATUS, headers=other)).status_code == 200
        world.clock.advance(told["retry_after_s"])
        assert (await client.get(STATUS, headers=eager)).status_code == 200


async def test_what_was_refused_for_its_rate_was_not_done_and_is_not_kept(snapshot: Path) -> None:
    load = LoadLimits(requests_a_second=0.1)
    async with running_world(snapshot, auth="required", load=load) as world, world.client() as client:
        user_id, headers = await world.user("asha")
        headers["Idempotency-Key"] = "once"
        assert (await client.get(STATUS, headers=headers)).status_code == 200
        problem(await client.post("/api/v2/watchlist/add", json={**ADD, "user_id": user_id}, headers=headers),
                429, "RATE_LIMITED")  # fmt: skip
        assert world.services.watchlists.entries(user_id) == []
        world.clock.advance(10)
        answer = await client.post("/api/v2/watchlist/add", json={**ADD, "user_id": user_id}, headers=headers)
        assert answer.status_code == 200


async def test_the_machine_itself_is_not_counted(snapshot: Path) -> None:
    load = LoadLimits(requests_a_second=1.0)
    async with running_world(snapshot, load=load) as world, world.client() as client:
        assert {(await client.get(STATUS)).status_code for _ in range(30)} == {200}


async def test_a_body_that_does_not_come_is_408() -> None:
    app = Recorder()
    await BodyLimit(app, 1_000, 0.01)(scope(), nothing, app.note)
    assert (app.begun, app.statuses) == (0, [408])


async def test_a_crowd_is_served_or_refused_and_every_add_counts_once(snapshot: Path) -> None:
    """Writes of sixty users at the same time: whatever was answered 200 is there, whatever was not is not."""
    load = LoadLimits(requests_at_once=20)
    async with running_world(snapshot, load=load) as world, world.client() as client:

        async def add(user_id: int) -> httpx.Response:
            return await client.post("/api/v2/watchlist/add", json={**ADD, "user_id": user_id})

        answers = await asyncio.gather(*(add(user_id) for user_id in range(1, 61)))
        codes = Counter(answer.status_code for answer in answers)
        assert codes.keys() == {200, 503}
        for user_id, answer in enumerate(answers, 1):
            assert len(world.services.watchlists.entries(user_id)) == (answer.status_code == 200)
        assert world.services.subscriptions.tier_a_count == 50
