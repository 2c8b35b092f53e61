"""HTTP over the bus: sealed, once, whole or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from app.bus.memory import MemoryBus
from app.core.errors import FeedAway, StoreUnavailable, TerminalError
from app.rest.call_desk import AT_ONCE, REFUSAL_EVERY_MS, WAITING_MAX, CallDesk
from app.rest.calls import (
    CALL_SUBJECT,
    PART_BYTES_MAX,
    Answer,
    Assembly,
    Call,
    Seal,
    unpack_call,
    unpack_part,
)
from app.rest.feed_link import FarAuthenticator, FeedLink

SCOPE: dict[str, Any] = {
    "type": "http",
    "method": "POST",
    "path": "/api/v2/watchlist/add",
    "raw_path": b"/api/v2/watchlist/add",
    "scheme": "http",
    "http_version": "1.1",
    "query_string": b"a=%C3%A9",
    "client": ("192.0.2.7", 50_000),
    "server": ("192.0.2.1", 8000),
    "headers": [(b"host", b"desk"), (b"x-odd", b"\xff\x00")],
}
NOW_MS = 1_770_000_000_000


def test_a_call_arrives_as_it_was_made() -> None:
    call = unpack_call(Call(7, "gateway-a", NOW_MS, SCOPE, b"{}").pack())
    assert (call.id, call.gateway, call.at_ms, call.body) == (7, "gateway-a", NOW_MS, b"{}")
    told = dict(call.scope)
    assert {name: told[name] for name in SCOPE} == SCOPE | {"client": [*SCOPE["client"]], "server": [*SCOPE["server"]]}


@given(st.binary(max_size=200))
def test_whatever_arrives_is_a_call_or_a_value_error(noise: bytes) -> None:
    for read in (unpack_call, unpack_part, Seal("key").open):
        try:
            read(noise)
        except ValueError:
            continue
        assert read is unpack_part


@given(st.binary(max_size=64), st.integers(0, 95))
def test_a_sealed_message_opens_whole_and_only_with_the_key(message: bytes, at: int) -> None:
    sealed = Seal("key").close(message)
    assert Seal("key").open(sealed) == message
    damaged = bytearray(sealed)
    damaged[at % len(sealed)] ^= 1
    for seal, octets in ((Seal("other"), sealed), (Seal("key"), bytes(damaged))):
        with pytest.raises(ValueError, match="seal"):
            seal.open(octets)


@pytest.mark.parametrize("size", [0, 1, PART_BYTES_MAX, PART_BYTES_MAX + 1, 3 * PART_BYTES_MAX])
def test_an_answer_of_any_size_comes_together_again(size: int) -> None:
    answer = Answer(207, [(b"x-odd", b"\xff")], bytes(size))
    assembly = Assembly([])
    for part in answer.parts(9):
        assert len(part) <= PART_BYTES_MAX + 64
        call_id, number, is_last, piece = unpack_part(part)
        assembly.take(number, piece)
    assert call_id == 9
    assert is_last
    assert assembly.answer() == answer


def test_a_lost_part_is_noticed() -> None:
    parts = list(Answer(200, [], bytes(2 * PART_BYTES_MAX)).parts(1))
    assembly = Assembly([])
    assembly.take(*unpack_part(parts[0])[1::2])
    with pytest.raises(ValueError, match="part 2"):
        assembly.take(*unpack_part(parts[2])[1::2])


class Pair:
    """A gateway's link and the desk of the owner on one bus, with a machine's time that tests move."""

    def __init__(self, api: Callable[[Scope, Receive, Send], Any]) -> None:
        self.now_ms = NOW_MS
        self.bus = MemoryBus()
        self.desk = CallDesk(api, self.live, self.bus, Seal("key"), lambda: self.now_ms)
        self.link = FeedLink(self.bus, Seal("key"), lambda: self.now_ms, "gateway-a")
        self._group = asyncio.TaskGroup()

    async def live(self, sessions: Collection[str]) -> set[str]:
        if "down" in sessions:
            raise StoreUnavailable("the store is away")
        return {each for each in sessions if each != "ended"}

    async def __aenter__(self) -> Pair:
        await self.bus.start()
        self.desk.start()
        self.link.start()
        await self._group.__aenter__()
        self._tasks = [self._group.create_task(self.desk.run()), self._group.create_task(self.link.run())]
        await self.link.up.wait()
        return self

    async def __aexit__(self, *problem: Any) -> None:
        for task in self._tasks:
            task.cancel()
        await self._group.__aexit__(*problem)
        self.desk.stop()
        self.link.stop()


async def test_a_call_goes_through_the_api_with_its_own_addresses() -> None:
    seen: list[Scope] = []

    async def api(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await PlainTextResponse(str(len((await receive())["body"])))(scope, receive, send)

    async with Pair(api) as pair:
        answer = await pair.link.call(SCOPE, b"four")
    assert (answer.status, answer.body) == (200, b"4")
    assert tuple(seen[-1]["client"]) == SCOPE["client"]


async def test_a_gateway_learns_which_sessions_were_ended() -> None:
    async with Pair(PlainTextResponse("")) as pair:
        far = FarAuthenticator(pair.link)
        assert await far.live({"open", "ended"}) == {"open"}
        with pytest.raises(TerminalError, match="away"):
            await far.live({"down"})


async def test_a_request_that_breaks_is_told_and_others_go_on() -> None:
    async def api(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != "/ready":
            raise RuntimeError("broken")
        await Response()(scope, receive, send)

    async with Pair(api) as pair:
        answers = [(await pair.link.call(SCOPE)).status for _ in range(3)]
    assert answers == [500, 500, 500]


async def test_a_busy_desk_still_tells_that_it_is_there() -> None:
    async def api(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != "/ready":
            await asyncio.Event().wait()
        await Response()(scope, receive, send)

    async with Pair(api) as pair, asyncio.TaskGroup() as crowd:
        calls = [crowd.create_task(pair.link.call(SCOPE)) for _ in range(AT_ONCE + WAITING_MAX)]
        await asyncio.sleep(0)
        assert (await pair.link.call({**SCOPE, "path": "/ready"}, timeout_s=1.0)).status == 200
        for call in calls:
            call.cancel()


async def test_a_call_counts_once_and_only_while_it_is_fresh() -> None:
    asked: list[str] = []

    async def api(scope: Scope, receive: Receive, send: Send) -> None:
        asked.append(scope["path"])
        await Response()(scope, receive, send)

    async with Pair(api) as pair:
        sealed = Seal("key").close(Call(1_000, "gateway-b", NOW_MS, SCOPE).pack())
        for _ in range(2):
            pair.bus.publish(CALL_SUBJECT, sealed)
        pair.bus.publish(CALL_SUBJECT, Seal("key").close(Call(1_001, "gateway-b", NOW_MS - 61_000, SCOPE).pack()))
        pair.bus.publish(CALL_SUBJECT, Seal("other").close(Call(1_002, "gateway-b", NOW_MS, SCOPE).pack()))
        await pair.link.call(SCOPE)
        assert asked.count(SCOPE["path"]) == 2
        assert pair.desk.refused == 3


async def test_nobody_there_is_told_at_once() -> None:
    link = FeedLink(MemoryBus(), Seal("key"), lambda: NOW_MS, "gateway-a")
    with pytest.raises(FeedAway):
        await link.call(SCOPE)


@pytest.mark.parametrize(
    ("key", "late_ms", "told"),
    [("other", 0, ["its BT_SECRET_KEY is another"]), ("key", 75_000, ["its time is 75 s off"]), ("key", 0, [])],
)
async def test_a_gateway_logs_once_why_the_owner_does_not_hear_it(key: str, late_ms: int, told: list[str]) -> None:
    async with Pair(Response()) as pair:
        apart = FeedLink(pair.bus, Seal(key), lambda: NOW_MS - late_ms, "gateway-b")
        apart.start()
        with structlog.testing.capture_logs() as logs:
            for number in range(3):
                call = Call(number, "gateway-b", NOW_MS - late_ms, SCOPE)
                pair.bus.publish(CALL_SUBJECT, Seal(key).close(call.pack()))
                pair.bus.publish(CALL_SUBJECT, b"a stranger's")
                pair.now_ms += REFUSAL_EVERY_MS
        apart.stop()
    reasons = [line["reason"] for line in logs if "this gateway's" in line["event"]]
    assert len(reasons) == len(told)
    assert all(reason.startswith(words) for reason, words in zip(reasons, told, strict=True))
