"""Segments: who may see which, on every way to a price, and who did."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.core.entitlement import ALL, parse_segments
from app.core.ids import Segment
from app.ports.access import ViewerCount
from app.ports.store import Role
from app.rest import limits
from app.stream.topics import Format
from tests.api.support import START
from tests.api.test_endpoints import ADD
from tests.api.test_errors import problem
from tests.api.test_object_level import Wire
from tests.api.world import World, running_world

API = "/api/v2"
EQUITIES = "user=NSE_EQ,BSE_EQ,IDX_I"
MCX_ADD = {"symbol": "CRUDEOIL", "expiry": None, "instrument_type": "COMMODITY_OPTION", "underlying_ltp": 6_000.0}


@pytest.fixture
async def licensed(snapshot: Path) -> AsyncIterator[World]:
    """Users see cash lines and indices; admins see everything."""
    async with running_world(snapshot, auth="required", segments=EQUITIES) as made:
        yield made


async def codes_of(world: World, headers: dict[str, str], *topics: str) -> list[str]:
    wire = Wire()
    await wire.talk(world, headers, [{"op": "subscribe", "topics": list(topics)}])
    return wire.codes


async def counts(world: World) -> list[ViewerCount]:
    await world.services.audience.flush()
    return await world.store.viewer_counts(START.date())


async def test_prices_of_other_segments_are_refused_on_every_route_and_topic(licensed: World) -> None:
    user_id, headers = await licensed.user("asha")
    asked: list[tuple[str, str, dict[str, Any] | None]] = [
        ("GET", "/option-chain/RELIANCE?expiry=24FEB2026&quotes=true", None),
        ("GET", "/subscriptions/RELIANCE_24FEB2026_2640CE", None),
        ("GET", "/bars/RELIANCE?expiry=24FEB2026", None),
        ("GET", "/bars/GOLD", None),
        ("POST", "/watchlist/add", {**ADD, "user_id": user_id}),
        ("POST", "/watchlist/add", {**MCX_ADD, "user_id": user_id}),
        ("POST", "/option-chain/subscribe", {"symbol": "NIFTY", "expiry": "24FEB2026"}),
    ]
    before = licensed.services.subscriptions.tier_a_count
    async with licensed.client(headers=headers) as client:
        for method, path, body in asked:
            told = problem(await client.request(method, f"{API}{path}", json=body), 403, "NOT_ENTITLED")
            assert told["segments"], path
        assert licensed.services.watchlists.entries(user_id) == []
        assert licensed.services.subscriptions.tier_a_count == before
        for path in ("/subscriptions/RELIANCE_EQ", "/bars/RELIANCE", "/subscriptions/NIFTY_IDX"):
            assert (await client.get(f"{API}{path}")).status_code == 200
        cash = {**ADD, "user_id": user_id, "instrument_type": "EQUITY"}
        assert (await client.post(f"{API}/watchlist/add", json=cash)).status_code == 200
    topics = ("chain:RELIANCE:24FEB2026", "quotes:RELIANCE_EQ,GOLD_FUT", "depth:RELIANCE_24FEB2026_2640CE")
    assert await codes_of(licensed, headers, *topics) == ["NOT_ENTITLED"] * 3
    assert await codes_of(licensed, headers, "quotes:RELIANCE_EQ", "depth:TCS_EQ", f"watchlist:{user_id}") == []


async def test_an_admin_cannot_put_into_a_list_what_its_user_may_not_see(licensed: World) -> None:
    user_id, _ = await licensed.user("asha")
    admin_id, headers = await licensed.user("root", Role.ADMIN)
    async with licensed.client(headers=headers) as client:
        problem(await client.post(f"{API}/watchlist/add", json={**ADD, "user_id": user_id}), 403, "NOT_ENTITLED")
        assert (await client.post(f"{API}/watchlist/add", json={**ADD, "user_id": admin_id})).status_code == 200
    assert await codes_of(licensed, headers, "chain:RELIANCE:24FEB2026", f"watchlist:{admin_id}") == []


async def test_viewers_are_counted_by_segment_once_a_day(world: World) -> None:
    _, asha = await world.user("asha")
    _, ravi = await world.user("ravi")
    async with world.client() as client:
        for headers in (asha, asha, ravi):
            path = f"{API}/option-chain/RELIANCE?expiry=24FEB2026&quotes=true"
            assert (await client.get(path, headers=headers)).status_code == 200
    await codes_of(world, asha, "quotes:GOLD_FUT", "status")
    day = START.date()
    expected = [("MCX_COMM", 1), ("NSE_EQ", 2), ("NSE_FNO", 2)]
    assert await counts(world) == [ViewerCount(day, segment, users, 1) for segment, users in expected]
    _, root = await world.user("root", Role.ADMIN)
    async with world.client(headers=root) as client:
        told = (await client.get(f"{API}/admin/viewers?since={day}")).json()
    assert [(line["segment"], line["users"]) for line in told["viewers"]] == expected


async def test_a_browsers_stream_counts_at_the_address_of_its_socket(licensed: World) -> None:
    """It can show its token in a message only, and is the viewer at the same address that its requests come from."""
    _, headers = await licensed.user("asha")
    async with licensed.client(headers=headers) as client:
        assert (await client.get(f"{API}/subscriptions/RELIANCE_EQ")).status_code == 200
    token = headers["Authorization"].removeprefix("Bearer ")
    said = [{"op": "auth", "token": token}, {"op": "subscribe", "topics": ["quotes:RELIANCE_EQ"]}]
    wire = Wire()
    await wire.talk(licensed, {}, said)
    assert wire.codes == []
    assert await counts(licensed) == [ViewerCount(START.date(), "NSE_EQ", 1, 1)]


async def test_what_shows_no_price_counts_nobody(world: World) -> None:
    _, headers = await world.user("asha")
    async with world.client(headers=headers) as client:
        for path in ("/instruments/search?q=REL", "/instruments/RELIANCE", "/subscriptions/status", "/auth/me",
                     "/stream/topics?topic=quotes:RELIANCE_EQ"):  # fmt: skip
            assert (await client.get(f"{API}{path}")).status_code == 200
        assert await counts(world) == []
        await client.get(f"{API}/stream/topics?topic=quotes:RELIANCE_EQ&watching=true")  # as a gateway asks
        assert [count.segment for count in await counts(world)] == ["NSE_EQ"]


async def test_what_cannot_be_written_now_is_written_later(world: World) -> None:
    _, headers = await world.user("asha")
    async with world.client(headers=headers) as client:
        await client.get(f"{API}/bars/RELIANCE")
    world.store.is_down = True
    await world.services.audience.flush()
    world.store.is_down = False
    assert [count.segment for count in await counts(world)] == ["NSE_EQ"]


async def test_a_stream_that_lasts_into_the_next_day_counts_on_that_day_too(world: World) -> None:
    hub = world.hub
    client = hub.join(7, False, Format.JSON, lambda: None, "10.0.0.7")
    hub.subscribe(client, ["quotes:RELIANCE_EQ"])
    hub.beat()
    world.clock.advance(24 * 3600)
    hub.beat()
    hub.leave(client)
    assert [(count.day.day - START.day, count.users) for count in await counts(world)] == [(0, 1), (1, 1)]


async def test_viewers_in_memory_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "VIEWERS_UNWRITTEN_MAX", 3)
    topic = world.hub.admit("quotes:RELIANCE_EQ", 1, is_admin=True)
    for user_id in range(1, 6):
        world.services.audience.saw(topic, user_id, "10.0.0.1")
    assert world.services.audience.lost == 2
    assert [count.users for count in await counts(world)] == [3]


@pytest.mark.parametrize(
    ("text", "user_id", "role", "seen"),
    [
        ("", 7, "user", ALL),
        ("user=NSE_EQ, IDX_I", 7, "user", {Segment.NSE_EQ, Segment.IDX_I}),
        ("user=NSE_EQ", 7, "admin", ALL),
        ("user=NSE_EQ; 7=all;", 7, "user", ALL),
        ("7=MCX_COMM", 8, "user", ALL),
        ("user=", 7, "user", set()),
    ],
)
def test_rules_are_read(text: str, user_id: int, role: str, seen: set[Segment]) -> None:
    assert parse_segments(text).segments_of(user_id, role) == seen


@pytest.mark.parametrize("text", ["everything", "user=NSE", "root=all", "user=all;user=NSE_EQ", "-1=all", "=all"])
def test_rules_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no|twice"):
        parse_segments(text)
