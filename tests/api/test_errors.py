"""Every refusal: its status, its code, its problem document, and that nothing has changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.ports.feed import FeedLimits
from app.rest import schemas
from tests.api.test_endpoints import ADD, CHAIN, add, get
from tests.api.world import EMPTY_UNIVERSE, World, running_world

NOBODY = {"user_id": 1, "symbol": "NOSUCH"}


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The document, checked for what all problems share."""
    assert (answer.status_code, answer.json().get("code")) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    schemas.Problem.model_validate(body)
    assert body["status"] == status
    assert body["instance"] == answer.request.url.path
    assert body["type"] == f"urn:broking-terminal:problem:{code.lower().replace('_', '-')}"
    return body


def changed(body: dict[str, Any], **by: Any) -> dict[str, Any]:
    return {**body, **by}


REFUSED: list[tuple[str, str, Any, int, str]] = [
    # 1
    ("POST", "/watchlist/add", changed(ADD, symbol="NOSUCH"), 404, "INSTRUMENT_UNKNOWN"),
    ("POST", "/watchlist/add", changed(ADD, expiry="27FEB2026"), 404, "EXPIRY_UNKNOWN"),
    ("POST", "/watchlist/add", changed(ADD, expiry="soon"), 404, "EXPIRY_UNKNOWN"),
    ("POST", "/watchlist/add", changed(ADD, symbol="TCS", expiry=None, underlying_ltp=None), 409, "SPOT_UNKNOWN"),
    ("POST", "/watchlist/add", changed(ADD, instrument_type="INDEX_OPTION"), 422, "INVALID_REQUEST"),
    ("POST", "/watchlist/add", changed(ADD, symbol="NIFTY", instrument_type="EQUITY"), 404, "INSTRUMENT_UNKNOWN"),
    ("POST", "/watchlist/add", changed(ADD, exchange="MCX"), 404, "INSTRUMENT_UNKNOWN"),
    # 2
    ("POST", "/watchlist/remove", NOBODY, 404, "INSTRUMENT_UNKNOWN"),
    ("POST", "/watchlist/remove", {"user_id": 1, "symbol": "TCS"}, 404, "NOT_IN_WATCHLIST"),
    ("POST", "/watchlist/remove", {"user_id": 1, "symbol": "TCS", "expiry": "soon"}, 404, "EXPIRY_UNKNOWN"),
    # 4
    ("GET", "/option-chain/NOSUCH?expiry=26FEB2026", None, 404, "INSTRUMENT_UNKNOWN"),
    ("GET", "/option-chain/RELIANCE?expiry=27FEB2026", None, 404, "EXPIRY_UNKNOWN"),
    ("GET", "/option-chain/RELIANCE?expiry=nonsense", None, 404, "EXPIRY_UNKNOWN"),
    ("GET", "/option-chain/TCS?expiry=24FEB2026", None, 409, "SPOT_UNKNOWN"),
    # 5
    ("POST", "/option-chain/subscribe", changed(CHAIN, symbol="NOSUCH"), 404, "INSTRUMENT_UNKNOWN"),
    ("POST", "/option-chain/subscribe", changed(CHAIN, expiry="27FEB2026"), 404, "EXPIRY_UNKNOWN"),
    ("POST", "/option-chain/subscribe", changed(CHAIN, action="release"), 404, "NOT_IN_WATCHLIST"),
    ("POST", "/option-chain/subscribe", {"symbol": "TCS", "expiry": "24FEB2026"}, 409, "SPOT_UNKNOWN"),
    # 7, 8, 9
    ("GET", "/subscriptions/active?symbol=NOSUCH", None, 404, "INSTRUMENT_UNKNOWN"),
    ("GET", "/subscriptions/NOSUCH_EQ", None, 404, "INSTRUMENT_UNKNOWN"),
    ("GET", "/subscriptions/NSE_FNO:1", None, 404, "INSTRUMENT_UNKNOWN"),
    # 11, 12
    ("GET", "/instruments/NOSUCH", None, 404, "INSTRUMENT_UNKNOWN"),
    ("GET", "/instruments/NOSUCH/expiries", None, 404, "INSTRUMENT_UNKNOWN"),
]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"), REFUSED, ids=[f"{path} {code}" for _, path, _, _, code in REFUSED]
)
async def test_a_refused_request_says_why_and_changes_nothing(
    world: World, client: httpx.AsyncClient, method: str, path: str, body: Any, status: int, code: str
) -> None:
    before = await get(client, "/subscriptions/status")
    problem(await client.request(method, f"/api/v2{path}", json=body), status, code)
    assert await get(client, "/subscriptions/status") == before
    assert (await get(client, "/watchlist/1"))["watchlist"] == []
    assert (await get(client, "/subscriptions/log"))["count"] == 0


# What cannot be meant, per endpoint that takes something.
UNREADABLE: list[tuple[str, str, Any, str]] = [
    *[
        ("POST", "/watchlist/add", changed(ADD, **bad), next(iter(bad)))
        for bad in (
            {"user_id": 0},
            {"user_id": -1},
            {"user_id": "1"},
            {"user_id": 1.5},
            {"user_id": True},
            {"user_id": None},
            {"user_id": 2**52 + 1},
            {"symbol": ""},
            {"symbol": 7},
            {"symbol": "x" * 65},
            {"expiry": 26},
            {"expiry": ""},
            {"instrument_type": "BOND"},
            {"instrument_type": None},
            {"underlying_ltp": 0},
            {"underlying_ltp": -2641.5},
            {"underlying_ltp": "2641.5"},
            {"underlying_ltp": True},
            {"underlying_ltp": 1e308},
            {"exchange": "NYSE"},
        )
    ],
    ("POST", "/watchlist/add", {}, "user_id"),
    ("POST", "/watchlist/add", [], "body"),
    ("POST", "/watchlist/remove", {"user_id": 1}, "symbol"),
    ("POST", "/watchlist/remove", {"symbol": "TCS", "user_id": "one"}, "user_id"),
    ("GET", "/watchlist/0", None, "user_id"),
    ("GET", "/watchlist/me", None, "user_id"),
    ("GET", "/option-chain/RELIANCE", None, "expiry"),
    ("GET", "/option-chain/RELIANCE?expiry=26FEB2026&underlying_ltp=0", None, "underlying_ltp"),
    ("GET", "/option-chain/RELIANCE?expiry=26FEB2026&underlying_ltp=nan", None, "underlying_ltp"),
    ("GET", "/option-chain/RELIANCE?expiry=26FEB2026&underlying_ltp=inf", None, "underlying_ltp"),
    ("GET", "/option-chain/RELIANCE?expiry=26FEB2026&underlying_ltp=1e308", None, "underlying_ltp"),
    ("POST", "/option-chain/subscribe", changed(CHAIN, underlying_ltp=1_000_000_000.5), "underlying_ltp"),
    ("GET", "/option-chain/RELIANCE?expiry=26FEB2026&underlying_ltp=x", None, "underlying_ltp"),
    ("GET", "/option-chain/RELIANCE?expiry=26FEB2026&quotes=perhaps", None, "quotes"),
    ("POST", "/option-chain/subscribe", changed(CHAIN, action="steal"), "action"),
    ("POST", "/option-chain/subscribe", {"symbol": "TCS"}, "expiry"),
    ("GET", "/subscriptions/active?tier=C", None, "tier"),
    ("GET", "/subscriptions/active?limit=0", None, "limit"),
    ("GET", "/subscriptions/active?limit=25001", None, "limit"),
    ("GET", "/subscriptions/log?limit=1001", None, "limit"),
    ("GET", "/subscriptions/log?action=STEAL", None, "action"),
    ("GET", "/subscriptions/log?since=yesterday", None, "since"),
    ("GET", "/instruments/search", None, "q"),
    ("GET", "/instruments/search?q=", None, "q"),
    ("GET", f"/instruments/search?q={'x' * 101}", None, "q"),
    ("GET", "/instruments/search?q=x&limit=101", None, "limit"),
    ("GET", f"/instruments/{'x' * 65}", None, "symbol"),
    ("POST", "/admin/clear-watchlists", {"user_id": 0}, "user_id"),
]


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    UNREADABLE,
    ids=[f"{number} {each[1][:40]}" for number, each in enumerate(UNREADABLE)],
)
async def test_what_cannot_be_meant_is_422_and_names_the_field(
    client: httpx.AsyncClient, method: str, path: str, body: Any, field: str
) -> None:
    told = problem(await client.request(method, f"/api/v2{path}", json=body), 422, "INVALID_REQUEST")
    assert field in {each["field"] for each in told["errors"]}
    assert all({"field", "in", "message", "type"} == each.keys() for each in told["errors"])


@pytest.mark.parametrize("path", ["/subscriptions/active?limit=3&cursor=", "/subscriptions/log?cursor="])
@pytest.mark.parametrize("cursor", ["x", "%%%", "bG9nOng", "YWN0aXZlOi0x", "b3RoZXI6MQ", "bG9nOg", "é"])
async def test_a_strangers_cursor_is_422(client: httpx.AsyncClient, path: str, cursor: str) -> None:
    problem(await client.get(f"/api/v2{path}{cursor}"), 422, "INVALID_REQUEST")


async def test_a_time_without_an_offset_is_422(client: httpx.AsyncClient) -> None:
    problem(await client.get("/api/v2/subscriptions/log?since=2026-02-03T10:00:00"), 422, "INVALID_REQUEST")


@pytest.mark.parametrize("text", ["", "{", '{"user_id": NaN}', "null", "7", '"x"', '{"user_id":1'])
async def test_bodies_that_are_no_object_are_422(client: httpx.AsyncClient, text: str) -> None:
    headers = {"Content-Type": "application/json"}
    told = problem(await client.post("/api/v2/watchlist/add", content=text, headers=headers), 422, "INVALID_REQUEST")
    assert told["errors"]


@pytest.mark.parametrize("ltp", ["NaN", "Infinity", "-Infinity", "1e999"])
async def test_a_price_must_be_finite(client: httpx.AsyncClient, ltp: str) -> None:
    text = '{"user_id":1,"symbol":"RELIANCE","expiry":"26FEB2026","instrument_type":"STOCK_OPTION","underlying_ltp":%s}'
    headers = {"Content-Type": "application/json"}
    problem(await client.post("/api/v2/watchlist/add", content=text % ltp, headers=headers), 422, "INVALID_REQUEST")


async def test_another_content_type_is_422(client: httpx.AsyncClient) -> None:
    for sent in ({"data": {"user_id": "1"}}, {"content": json.dumps(ADD)}):  # as curl -d without a header
        answer = await client.post("/api/v2/watchlist/add", **sent)
        assert "Content-Type: application/json" in problem(answer, 422, "INVALID_REQUEST")["detail"]


async def test_unknown_fields_are_ignored(client: httpx.AsyncClient) -> None:
    assert (await add(client, colour="blue"))["success"] is True


async def test_expiry_unknown_lists_the_valid_ones(client: httpx.AsyncClient) -> None:
    told = problem(await client.get("/api/v2/option-chain/RELIANCE?expiry=27FEB2026"), 404, "EXPIRY_UNKNOWN")
    assert {"24FEB2026", "26FEB2026"} <= set(told["valid"])


async def test_adding_twice_is_409(client: httpx.AsyncClient) -> None:
    await add(client)
    problem(await client.post("/api/v2/watchlist/add", json=ADD), 409, "ALREADY_IN_WATCHLIST")
    assert (await get(client, "/watchlist/1"))["count"] == 1


async def test_what_does_not_fit_is_409_and_says_by_how_much(snapshot: Path) -> None:
    limits = FeedLimits(5, 30, 100)
    async with running_world(snapshot, limits=limits, universe=EMPTY_UNIVERSE) as world, world.client() as client:
        before = (await get(client, "/subscriptions/status"))["subscriptions"]
        body = {"user_id": 1, "symbol": "NIFTY", "instrument_type": "INDEX_OPTION", "underlying_ltp": 25_000}
        told = problem(await client.post("/api/v2/watchlist/add", json=body), 409, "CAPACITY_EXCEEDED")
        assert told["short"] == 202 + before["tier_b_count"] - before["max_capacity"]
        assert (await get(client, "/watchlist/1"))["count"] == 0
        assert (await get(client, "/subscriptions/status"))["subscriptions"] == before


async def test_when_full_the_least_recently_used_chain_gives_way(snapshot: Path) -> None:
    limits = FeedLimits(5, 30, 100)
    async with running_world(snapshot, limits=limits, universe=EMPTY_UNIVERSE) as world, world.client() as client:
        await add(client, user_id=1, symbol="RELIANCE")
        world.clock.advance(1)
        await add(client, user_id=2, symbol="TCS", expiry="24FEB2026", underlying_ltp=3_000)
        world.clock.advance(1)
        added = await add(client, user_id=3, symbol="INFY", expiry="24FEB2026", underlying_ltp=1_500)
        assert added["evicted"] == [{"symbol": "RELIANCE", "expiry": "26FEB2026", "legs": 50, "owner": "other"}]
        entry = (await get(client, "/watchlist/1"))["watchlist"][0]
        assert entry["state"] == "EVICTED"
        assert "INFY" in entry["state_reason"]
        log = await get(client, "/subscriptions/log", action="RATE_LIMIT_EVICT")
        assert log["count"] == 50
        detail = await get(client, "/subscriptions/RELIANCE_26FEB2026_2640CE")
        assert detail["details"]["state"] == "EVICTED"
        await world.settle()


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/watchlist/add", ADD),
        ("POST", "/option-chain/subscribe", CHAIN),
        ("GET", "/subscriptions/log", None),
        ("POST", "/admin/unsubscribe-all-tier-a", None),
    ],
)
async def test_without_the_store_nothing_is_promised(
    world: World, client: httpx.AsyncClient, method: str, path: str, body: Any
) -> None:
    world.store.is_down = True
    answer = await client.request(method, f"/api/v2{path}", json=body)
    problem(answer, 503, "STORE_UNAVAILABLE")
    assert answer.headers["retry-after"] == "5"
    world.store.is_down = False
    assert (await get(client, "/subscriptions/status"))["subscriptions"]["tier_a_count"] == 0
    assert (await get(client, "/watchlist/1"))["count"] == 0


async def test_idempotent_adds_are_one_entry(client: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "once"}
    first = await client.post("/api/v2/watchlist/add", json=ADD, headers=headers)
    again = await client.post("/api/v2/watchlist/add", json=ADD, headers=headers)
    assert first.status_code == again.status_code == 200
    assert first.content == again.content
    problem(
        await client.post("/api/v2/watchlist/add", json=changed(ADD, user_id=2), headers=headers),
        422,
        "INVALID_REQUEST",
    )
    assert (await get(client, "/watchlist/1"))["count"] == 1


@pytest.mark.parametrize("since", ["1.5", "1700000000", "1e-38", "yesterday", "2026-02-30", ""])
@pytest.mark.parametrize("path", ["/subscriptions/log", "/admin/viewers"])
async def test_a_number_is_no_day_and_no_moment(client: httpx.AsyncClient, path: str, since: str) -> None:
    problem(await client.get(f"/api/v2{path}", params={"since": since}), 422, "INVALID_REQUEST")
