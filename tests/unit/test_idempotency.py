"""The same write sent twice is done once and answered twice alike."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import orjson
import pytest
from starlette.types import Receive, Scope, Send

from app.ports.store import Role
from app.rest import limits
from app.rest.answers import JsonAnswer
from app.rest.auth import Principal
from app.rest.idempotency import IdempotentWrites
from tests.api.support import HandClock, client_of

PATH = "/api/v2/thing"


class Counter:
    """An application that counts what reaches it; the layer's outside sets the caller as the gate does."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.calls: list[bytes] = []
        self.statuses: list[int] = []
        self.hold: asyncio.Event | None = None
        self.reached = asyncio.Event()
        self.layer = IdempotentWrites(self._inner, self.clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        user = next((int(value) for name, value in scope["headers"] if name == b"x-user"), 1)
        scope["principal"] = Principal(user, Role.USER, "somebody")
        await self.layer(scope, receive, send)

    async def _inner(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        self.calls.append(message["body"])
        number = len(self.calls)
        self.reached.set()
        if self.hold is not None:
            await self.hold.wait()
        status = self.statuses.pop(0) if self.statuses else 200
        if status == 0:
            raise RuntimeError("broken")
        await JsonAnswer({"number": number}, status, {"X-Number": str(number)})(scope, receive, send)


@pytest.fixture
def counter() -> Counter:
    return Counter()


async def post(app: Any, key: str | None = "k1", body: object = "x", user: int = 1, path: str = PATH) -> httpx.Response:
    headers = {"X-User": str(user)} | ({} if key is None else {"Idempotency-Key": key})
    async with client_of(app) as client:
        return await client.post(path, content=orjson.dumps(body), headers=headers)


async def test_a_repeat_gets_the_same_answer(counter: Counter) -> None:
    first, second = await post(counter), await post(counter)
    assert (first.status_code, first.content) == (second.status_code, second.content)
    assert second.headers["x-number"] == "1"
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    assert len(counter.calls) == 1


async def test_without_a_key_each_counts(counter: Counter) -> None:
    await post(counter, None)
    await post(counter, None)
    assert len(counter.calls) == 2


async def test_another_body_is_refused(counter: Counter) -> None:
    await post(counter)
    answer = await post(counter, body="y")
    assert answer.status_code == 422
    assert answer.json()["code"] == "INVALID_REQUEST"
    assert len(counter.calls) == 1


async def test_keys_are_per_user_and_path(counter: Counter) -> None:
    await post(counter)
    await post(counter, user=2)
    await post(counter, path="/api/v2/other")
    assert len(counter.calls) == 3


async def test_a_duplicate_waits_for_the_first(counter: Counter) -> None:
    counter.hold = asyncio.Event()
    first = asyncio.ensure_future(post(counter))
    await counter.reached.wait()
    second = asyncio.ensure_future(post(counter))
    await asyncio.sleep(0)
    counter.hold.set()
    answers = await asyncio.gather(first, second)
    assert [answer.json() for answer in answers] == [{"number": 1}] * 2
    assert len(counter.calls) == 1


async def test_when_the_first_breaks_a_waiting_one_runs(counter: Counter) -> None:
    counter.hold = asyncio.Event()
    counter.statuses = [0, 200]
    first = asyncio.ensure_future(post(counter))
    await counter.reached.wait()
    second = asyncio.ensure_future(post(counter))
    await asyncio.sleep(0)
    counter.hold.set()
    answers = await asyncio.gather(first, second)
    assert answers[1].json() == {"number": 2}


@pytest.mark.parametrize("status", [500, 503, 429, 401, 403])
async def test_answers_about_the_moment_are_not_kept(counter: Counter, status: int) -> None:
    counter.statuses = [status, 200]
    assert (await post(counter)).status_code == status
    assert (await post(counter)).status_code == 200


@pytest.mark.parametrize("status", [404, 409, 422])
async def test_answers_about_the_request_are_kept(counter: Counter, status: int) -> None:
    counter.statuses = [status, 200]
    assert (await post(counter)).status_code == status
    assert (await post(counter)).status_code == status


async def test_it_ends_with_its_time(counter: Counter) -> None:
    await post(counter)
    counter.clock.advance(limits.IDEMPOTENCY_TTL_S)
    await post(counter)
    assert len(counter.calls) == 2


async def test_the_least_recently_used_goes_first(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "IDEMPOTENCY_ENTRIES_MAX", 2)
    for key in ("a", "b", "a", "c", "a"):
        await post(counter, key)
    assert len(counter.calls) == 3
    await post(counter, "b")
    assert len(counter.calls) == 4


async def test_answers_too_large_are_not_kept(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "IDEMPOTENCY_ANSWER_BYTES_MAX", 3)
    await post(counter)
    await post(counter)
    assert len(counter.calls) == 2


async def test_bytes_are_bounded_too(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "IDEMPOTENCY_BYTES_MAX", 20)
    for key in ("a", "b", "c", "d"):
        await post(counter, key)
    await post(counter, "a")
    assert len(counter.calls) == 5


async def test_more_running_than_there_is_room_for(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "IDEMPOTENCY_ENTRIES_MAX", 1)
    counter.hold = asyncio.Event()
    first = asyncio.ensure_future(post(counter, "a"))
    await counter.reached.wait()
    assert (await post(counter, "b")).status_code == 429
    counter.hold.set()
    assert (await first).status_code == 200


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\tinside"])
async def test_odd_keys_are_refused(counter: Counter, key: str) -> None:
    answer = await post(counter, key)
    assert answer.status_code == 422
    assert counter.calls == []
