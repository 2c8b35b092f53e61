"""What an outsider with only the contract stumbled over: spellings, probes, and users named in another place."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from app.ports.store import Role
from tests.api.test_endpoints import ADD, CHAIN, add, get
from tests.api.test_errors import changed, problem
from tests.api.world import World

CLEAR = "/api/v2/admin/clear-watchlists"


async def test_a_user_named_in_the_query_is_the_only_one_cleared(client: httpx.AsyncClient) -> None:
    for user_id in (1, 2):
        await add(client, user_id=user_id)
    one = await client.post(CLEAR, params={"user_id": 2})
    assert one.json() == {"action": "clear_watchlists", "user_id": 2, "success": True, "cleared_count": 1}
    assert (await get(client, "/watchlist/1"))["count"] == 1
    problem(await client.post(CLEAR, params={"user_id": 0}), 422, "INVALID_REQUEST")
    problem(await client.post(CLEAR, params={"user_id": 1}, json={"user_id": 2}), 422, "INVALID_REQUEST")
    assert (await get(client, "/watchlist/1"))["count"] == 1
    same = await client.post(CLEAR, params={"user_id": 1}, json={"user_id": 1})
    assert same.json()["cleared_count"] == 1


@pytest.mark.parametrize("path", ["/watchlist/remove", "/option-chain/subscribe"])
@pytest.mark.parametrize("expiry", ["soon", "31FEB2026"])
async def test_an_unreadable_expiry_is_answered_with_the_valid_ones(
    client: httpx.AsyncClient, path: str, expiry: str
) -> None:
    body = {"user_id": 1, "symbol": "RELIANCE", "expiry": expiry, "action": "release"}
    told = problem(await client.post(f"/api/v2{path}", json=body), 404, "EXPIRY_UNKNOWN")
    assert {"24FEB2026", "26FEB2026"} <= set(told["valid"])
    assert expiry in told["detail"]


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics"])
async def test_a_probe_may_ask_with_head(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.head(path)
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize("path", ["/watchlist/add", "/watchlist/remove", "/option-chain/subscribe", "/auth/token"])
async def test_a_path_that_only_takes_post_says_so(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(f"/api/v2{path}")
    problem(answer, 405, "METHOD_NOT_ALLOWED")
    assert answer.headers["allow"] == "POST"


async def test_an_exchange_may_be_written_small(client: httpx.AsyncClient) -> None:
    chain = await get(client, "/option-chain/RELIANCE", expiry="26FEB2026", underlying_ltp=2641.5, exchange="bse")
    assert chain["exchange"] == "BSE"
    assert (await client.post("/api/v2/watchlist/add", json=changed(ADD, exchange=" bse "))).status_code == 200
    assert (await client.post("/api/v2/option-chain/subscribe", json=changed(CHAIN, exchange="bse"))).is_success
    problem(await client.post("/api/v2/watchlist/add", json=changed(ADD, exchange=7)), 422, "INVALID_REQUEST")


async def test_since_may_be_written_without_escaping_its_plus(client: httpx.AsyncClient) -> None:
    await add(client)
    escaped = await client.get("/api/v2/subscriptions/log?since=2026-02-03T09:15:00%2B05:30")
    plain = await client.get("/api/v2/subscriptions/log?since=2026-02-03T09:15:00+05:30")
    assert plain.json() == escaped.json()
    assert plain.json()["count"] > 0
    later = await client.get("/api/v2/subscriptions/log?since=2026-02-03T23:15:00+05:30")
    assert later.json()["count"] == 0


@pytest.mark.parametrize("body", [b"{bad", b'{"symbol":"\xff"}'])
async def test_a_body_that_is_no_json_is_422_and_called_the_body(client: httpx.AsyncClient, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    answer = await client.post("/api/v2/watchlist/add", content=body, headers=headers)
    assert "body" in problem(answer, 422, "INVALID_REQUEST")["detail"]


async def test_one_instrument_is_counted_as_one(client: httpx.AsyncClient) -> None:
    cash: dict[str, Any] = {"user_id": 1, "symbol": "RELIANCE", "instrument_type": "EQUITY"}
    answer = await client.post("/api/v2/watchlist/add", json=cash)
    assert answer.json()["message"] == "RELIANCE added, 1 instrument subscribed"


@pytest.mark.parametrize(("body", "told"), [({"user_id": 2}, "user 2: clear lists"), ({}, "every user: clear lists")])
async def test_the_trail_says_whose_lists_an_admin_cleared(
    client: httpx.AsyncClient, body: dict[str, int], told: str
) -> None:
    await client.post(CLEAR, json=body)
    newest = (await get(client, "/admin/access-log"))["log"][0]
    assert (newest["action"], newest["detail"]) == ("ACTED_FOR", told)


async def test_an_admin_cannot_clear_the_lists_of_nobody(world: World, client: httpx.AsyncClient) -> None:
    _, admin = await world.user("lata", Role.ADMIN)
    answer = await client.post(CLEAR, json={"user_id": 99}, headers=admin)
    assert "no user 99" in problem(answer, 422, "INVALID_REQUEST")["detail"]
    assert (await client.post(CLEAR, json={"user_id": 99})).json()["cleared_count"] == 0, (
        "no sign-in: any number is one"
    )
