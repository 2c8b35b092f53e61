"""Several named lists a user: their order, the order in them, and who owns what when an entry stands in two."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from app.ports.store import Role
from app.rest import schemas
from tests.api.test_endpoints import ADD, add, get
from tests.api.test_errors import problem
from tests.api.world import World, running_world

TCS = {"symbol": "TCS", "expiry": None, "instrument_type": "EQUITY", "underlying_ltp": None}
INFY = {**TCS, "symbol": "INFY"}


async def post(client: httpx.AsyncClient, path: str, **body: Any) -> dict[str, Any]:
    answer = await client.post(f"/api/v2{path}", json={"user_id": 1, **body})
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def names(client: httpx.AsyncClient) -> list[str]:
    told = await get(client, "/watchlists/1")
    schemas.NamedLists.model_validate(told)
    assert [each["position"] for each in told["lists"]] == list(range(1, told["count"] + 1))
    return [each["name"] for each in told["lists"]]


async def symbols(client: httpx.AsyncClient, list_name: str) -> list[str]:
    told = await get(client, "/watchlist/1", list=list_name)
    return [each["symbol"] for each in told["watchlist"]]


async def test_lists_are_made_renamed_ordered_and_deleted(client: httpx.AsyncClient) -> None:
    assert await names(client) == ["default"]
    for name in ("swing", "  Scalps   ₹ "):
        schemas.ListsChanged.model_validate(await post(client, "/watchlists/create", name=name))
    assert await names(client) == ["default", "swing", "Scalps ₹"]
    await post(client, "/watchlists/order", lists=["SCALPS ₹", "default"])
    assert await names(client) == ["Scalps ₹", "default", "swing"]
    await post(client, "/watchlists/rename", list="swing", name="Swing")
    await add(client, list="swing")
    told = await post(client, "/watchlists/delete", list="SWING")
    assert (told["removed"], told["unsubscribed"]) == (1, 50)
    assert await names(client) == ["Scalps ₹", "default"]


async def test_the_sixteen_mean_the_default_list(world: World, client: httpx.AsyncClient) -> None:
    await post(client, "/watchlists/create", name="swing")
    await add(client)
    await add(client, list="swing")
    listed = (await get(client, "/watchlist/1"))["watchlist"]
    assert [(each["list"], each["position"]) for each in listed] == [("default", 1), ("swing", 1)]
    removed = await post(client, "/watchlist/remove", symbol="RELIANCE")
    assert removed["unsubscribed"] == 0, "the other list owns the same legs"
    assert world.services.subscriptions.tier_a_count == 50
    removed = await post(client, "/watchlist/remove", symbol="RELIANCE", list="swing")
    assert removed["unsubscribed"] == 50


async def test_entries_are_put_into_an_order_and_moved(world: World, client: httpx.AsyncClient) -> None:
    await post(client, "/watchlists/create", name="swing")
    await add(client)
    await add(client, **TCS)
    await add(client, **INFY)
    ids = {each["symbol"]: each["id"] for each in (await get(client, "/watchlist/1"))["watchlist"]}
    told = await post(client, "/watchlist/order", ids=[ids["INFY"], ids["RELIANCE"]])
    schemas.ListOrdered.model_validate(told)
    assert await symbols(client, "default") == ["INFY", "RELIANCE", "TCS"]
    before = world.services.subscriptions.total
    told = await post(client, "/watchlist/move", id=ids["RELIANCE"], list="swing")
    schemas.EntryMoved.model_validate(told)
    told = await post(client, "/watchlist/move", id=ids["TCS"], list="swing", position=1, copy=True)
    assert await symbols(client, "default") == ["INFY", "TCS"]
    assert await symbols(client, "swing") == ["TCS", "RELIANCE"]
    assert world.services.subscriptions.total == before, "a move and a copy subscribe nothing new"
    removed = await post(client, "/watchlist/remove", symbol="TCS", id=ids["TCS"])
    assert removed["unsubscribed"] == 0
    assert await symbols(client, "swing") == ["TCS", "RELIANCE"]


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/watchlists/create", {"name": "DEFAULT"}, 409, "LIST_EXISTS"),
        ("/watchlists/create", {"name": "swing "}, 409, "LIST_EXISTS"),
        ("/watchlists/create", {"name": "@explicit"}, 422, "INVALID_REQUEST"),
        ("/watchlists/create", {"name": "a:b"}, 422, "INVALID_REQUEST"),
        ("/watchlists/create", {"name": "a\u0000b"}, 422, "INVALID_REQUEST"),
        ("/watchlists/create", {"name": "x" * 41}, 422, "INVALID_REQUEST"),
        ("/watchlists/rename", {"list": "default", "name": "mine"}, 422, "INVALID_REQUEST"),
        ("/watchlists/rename", {"list": "none", "name": "mine"}, 404, "LIST_UNKNOWN"),
        ("/watchlists/delete", {"list": "default"}, 422, "INVALID_REQUEST"),
        ("/watchlists/delete", {"list": "@explicit"}, 404, "LIST_UNKNOWN"),
        ("/watchlists/order", {"lists": ["swing", "SWING"]}, 422, "INVALID_REQUEST"),
        ("/watchlist/order", {"ids": [4_711]}, 404, "NOT_IN_WATCHLIST"),
        ("/watchlist/move", {"id": 4_711, "list": "swing"}, 404, "NOT_IN_WATCHLIST"),
        ("/watchlist/add", {**ADD, "list": "none"}, 404, "LIST_UNKNOWN"),
        ("/watchlist/remove", {"symbol": "RELIANCE", "list": "none"}, 404, "LIST_UNKNOWN"),
    ],
)
async def test_what_cannot_be_is_refused_and_changes_nothing(
    world: World, client: httpx.AsyncClient, path: str, body: dict[str, Any], status: int, code: str
) -> None:
    await post(client, "/watchlists/create", name="swing")
    before = (await get(client, "/watchlists/1"), world.services.subscriptions.revision)
    problem(await client.post(f"/api/v2{path}", json={"user_id": 1, **body}), status, code)
    assert (await get(client, "/watchlists/1"), world.services.subscriptions.revision) == before


async def test_end_of_day_and_clear_empty_every_list_and_keep_it(world: World, client: httpx.AsyncClient) -> None:
    await post(client, "/watchlists/create", name="swing")
    await add(client, list="swing")
    cleared = await post(client, "/admin/clear-watchlists")
    assert cleared["cleared_count"] == 1
    assert await names(client) == ["default", "swing"]
    await add(client, list="swing")
    await world.services.watchlists.end_of_day("EOD:test", world.clock.now(), frozenset({"NSE"}))
    assert await symbols(client, "swing") == ["RELIANCE"], "added at the very moment: of the next day"


@pytest.fixture
async def locked(snapshot: Any) -> AsyncIterator[World]:
    async with running_world(snapshot, auth="required") as made:
        yield made


LIST_CALLS = [
    ("POST", "/watchlists/create", {"name": "x"}),
    ("POST", "/watchlists/rename", {"list": "swing", "name": "x"}),
    ("POST", "/watchlists/delete", {"list": "swing"}),
    ("POST", "/watchlists/order", {"lists": ["swing"]}),
    ("POST", "/watchlist/order", {"ids": []}),
    ("POST", "/watchlist/move", {"id": 1, "list": "swing"}),
]


async def test_nobody_touches_anothers_lists(locked: World) -> None:
    asha, of_asha = await locked.user("asha", Role.USER)
    _, of_ravi = await locked.user("ravi", Role.USER)
    async with locked.client() as client:
        made = await client.post("/api/v2/watchlists/create", json={"user_id": asha, "name": "swing"}, headers=of_asha)
        assert made.status_code == 200
        before = (await client.get(f"/api/v2/watchlists/{asha}", headers=of_asha)).json()
        for method, path, body in LIST_CALLS:
            sent = {"user_id": asha, **body}
            problem(await client.request(method, f"/api/v2{path}", json=sent, headers=of_ravi), 403, "FORBIDDEN")
            problem(await client.request(method, f"/api/v2{path}", json=sent), 401, "UNAUTHENTICATED")
        problem(await client.get(f"/api/v2/watchlists/{asha}", headers=of_ravi), 403, "FORBIDDEN")
        assert (await client.get(f"/api/v2/watchlists/{asha}", headers=of_asha)).json() == before


async def test_a_repeated_request_makes_one_list(client: httpx.AsyncClient) -> None:
    body = {"user_id": 1, "name": "swing"}
    key = {"Idempotency-Key": "once"}
    first = await client.post("/api/v2/watchlists/create", json=body, headers=key)
    again = await client.post("/api/v2/watchlists/create", json=body, headers=key)
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.json() == first.json()
    assert await names(client) == ["default", "swing"]
