"""Who may do what, over every route: foreign callers, tokens, roles, own objects only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.ports.store import Role
from app.rest import limits
from tests.api.support import HandClock, routes_of
from tests.api.test_endpoints import ADD, CHAIN, ENDPOINTS
from tests.api.test_errors import problem
from tests.api.world import PASSWORD, World, running_world

FAR: dict[str, Any] = {"client": ("192.168.1.50", 40_000)}
OPEN_PATHS = {"/health", "/ready", "/docs", "/openapi.json"}


@pytest.fixture
async def locked(snapshot: Path) -> AsyncIterator[World]:
    """A service that always asks for a token."""
    async with running_world(snapshot, auth="required") as made:
        yield made


@pytest.mark.parametrize(
    ("method", "path", "body"), [each[:3] for each in ENDPOINTS], ids=[each[1] for each in ENDPOINTS]
)
async def test_every_endpoint_asks_a_stranger_for_a_token(world: World, method: str, path: str, body: Any) -> None:
    async with world.client(**FAR) as client:
        answer = await client.request(method, f"/api/v2{path}", json=body)
        problem(answer, 401, "UNAUTHENTICATED")
        assert answer.headers["www-authenticate"] == "Bearer"
        forged = await client.request(method, f"/api/v2{path}", json=body, headers={"Authorization": "Bearer x.y.z"})
        problem(forged, 401, "UNAUTHENTICATED")


async def test_no_api_route_was_forgotten(locked: World) -> None:
    async with locked.client() as client:
        for path in locked.app.openapi()["paths"]:
            method = next(iter(locked.app.openapi()["paths"][path])).upper()
            if path in OPEN_PATHS or path.endswith("/auth/token"):
                continue
            answer = await client.request(method, path.format(user_id=1, symbol="TCS", token="TCS_EQ"))
            assert answer.status_code == 401, path
        assert (await client.get("/api/v2/nothing/here")).status_code == 401
        assert (await client.get("/metrics")).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:3000"},
        {"Host": "evil.example:8000"},
        {"X-Forwarded-For": "1.2.3.4"},
        {"Forwarded": "for=1.2.3.4"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
async def test_a_foreign_page_or_a_proxy_needs_a_token(world: World, headers: dict[str, str]) -> None:
    async with world.client() as client:
        problem(await client.post("/api/v2/watchlist/add", json=ADD, headers=headers), 401, "UNAUTHENTICATED")
        problem(await client.get("/api/v2/watchlist/1", headers=headers), 401, "UNAUTHENTICATED")
        assert (await client.get("/health", headers=headers)).status_code == 200
        assert world.services.subscriptions.tier_a_count == 0


async def test_off_still_keeps_foreign_pages_out(snapshot: Path) -> None:
    async with running_world(snapshot, auth="off") as world, world.client() as client:
        assert (await client.get("/api/v2/watchlist/1", headers={"X-Forwarded-For": "1.2.3.4"})).status_code == 200
        answer = await client.get("/api/v2/watchlist/1", headers={"Origin": "https://evil.example"})
        problem(answer, 401, "UNAUTHENTICATED")


async def test_own_page_needs_none(world: World) -> None:
    async with world.client(headers={"Origin": "http://127.0.0.1:8000", "Sec-Fetch-Site": "same-origin"}) as client:
        assert (await client.post("/api/v2/watchlist/add", json=ADD)).status_code == 200


async def test_without_a_token_any_positive_integer_is_a_user(world: World) -> None:
    async with world.client() as client:
        assert await world.store.user_by_id(77) is None
        assert (await client.get("/api/v2/watchlist/77")).json()["count"] == 0
        assert await world.store.user_by_id(77) is None
        answer = await client.post("/api/v2/watchlist/add", json={**ADD, "user_id": 77})
        assert answer.status_code == 200
        assert await world.store.user_by_id(77) is not None


async def test_a_user_acts_for_itself_only(locked: World) -> None:
    own, headers = await locked.user("asha")
    other, _ = await locked.user("ravi")
    async with locked.client(headers=headers) as client:
        assert (await client.post("/api/v2/watchlist/add", json={**ADD, "user_id": own})).status_code == 200
        assert (await client.get(f"/api/v2/watchlist/{own}")).json()["count"] == 1
        foreign = [
            ("POST", "/watchlist/add", {**ADD, "user_id": other}),
            ("POST", "/watchlist/remove", {"user_id": other, "symbol": "RELIANCE"}),
            ("GET", f"/watchlist/{other}", None),
            ("POST", "/option-chain/subscribe", {**CHAIN, "user_id": other}),
        ]
        for method, path, body in foreign:
            problem(await client.request(method, f"/api/v2{path}", json=body), 403, "FORBIDDEN")
        assert locked.services.watchlists.entries(other) == []


async def test_the_explicit_entry_is_the_callers(locked: World) -> None:
    own, headers = await locked.user("asha")
    async with locked.client(headers=headers) as client:
        assert (await client.post("/api/v2/option-chain/subscribe", json=CHAIN)).json()["total_subscribed"] == 50
    assert len(locked.services.watchlists.explicit_entries(own)) == 1


async def test_admin_endpoints_need_an_admin(locked: World) -> None:
    _, plain = await locked.user("asha")
    _, root = await locked.user("root", Role.ADMIN)
    admin = [(method, path) for method, path, *_ in ENDPOINTS if path.startswith("/admin/")]
    admin += [("GET", "/admin/registry"), ("GET", "/admin/tier-b")]
    assert len(admin) == 6
    async with locked.client() as client:
        for method, path in admin:
            problem(await client.request(method, f"/api/v2{path}", headers=plain), 403, "FORBIDDEN")
        for method, path in admin:
            assert (await client.request(method, f"/api/v2{path}", headers=root)).status_code == 200, path


async def test_an_admin_acts_for_users_that_exist(locked: World) -> None:
    _, root = await locked.user("root", Role.ADMIN)
    other, _ = await locked.user("ravi")
    async with locked.client(headers=root) as client:
        assert (await client.post("/api/v2/watchlist/add", json={**ADD, "user_id": other})).status_code == 200
        problem(await client.post("/api/v2/watchlist/add", json={**ADD, "user_id": 999}), 422, "INVALID_REQUEST")
        assert await locked.store.user_by_id(999) is None


async def test_signing_in_over_http(locked: World) -> None:
    own, _ = await locked.user("asha")
    async with locked.client(**FAR) as client:
        answer = await client.post("/api/v2/auth/token", data={"username": "asha", "password": PASSWORD})
        assert answer.status_code == 200, answer.text
        told = answer.json()
        assert told.keys() == {"access_token", "token_type", "expires_in", "user_id"}
        assert (told["token_type"], told["user_id"]) == ("bearer", own)
        assert answer.headers["cache-control"] == "no-store"
        headers = {"Authorization": f"Bearer {told['access_token']}"}
        assert (await client.get(f"/api/v2/watchlist/{own}", headers=headers)).status_code == 200
        # Tokens never travel in a URL.
        assert (await client.get(f"/api/v2/watchlist/{own}?access_token={told['access_token']}")).status_code == 401
        locked.clock.advance(told["expires_in"])
        problem(await client.get(f"/api/v2/watchlist/{own}", headers=headers), 401, "UNAUTHENTICATED")


@pytest.mark.parametrize(
    "form",
    [{}, {"username": "asha"}, {"password": PASSWORD}, {"username": "a", "password": "b", "grant_type": "implicit"}],
)
async def test_an_incomplete_form_is_422_and_keeps_the_password_to_itself(locked: World, form: dict[str, str]) -> None:
    async with locked.client() as client:
        answer = await client.post("/api/v2/auth/token", data=form)
        problem(answer, 422, "INVALID_REQUEST")
        assert PASSWORD not in answer.text


async def test_wrong_passwords_end_in_429_with_a_time(locked: World) -> None:
    await locked.user("asha")
    async with locked.client() as client:
        wrong = {"username": "asha", "password": "not the password"}
        for _ in range(limits.FAILURES_PER_NAME_MAX):
            problem(await client.post("/api/v2/auth/token", data=wrong), 401, "UNAUTHENTICATED")
        answer = await client.post("/api/v2/auth/token", data={"username": "asha", "password": PASSWORD})
        told = problem(answer, 429, "RATE_LIMITED")
        assert int(answer.headers["retry-after"]) == told["retry_after_s"] > 0


async def test_a_foreign_page_cannot_try_passwords(locked: World) -> None:
    async with locked.client(headers={"Origin": "https://evil.example"}) as client:
        answer = await client.post("/api/v2/auth/token", data={"username": "a", "password": "b"})
        problem(answer, 403, "FORBIDDEN")


async def test_a_token_of_a_removed_right_ends_at_once(locked: World) -> None:
    from dataclasses import replace

    _, root = await locked.user("root", Role.ADMIN)
    user = await locked.store.user_by_name("root")
    assert user is not None
    async with locked.client(headers=root) as client:
        assert (await client.get("/api/v2/admin/ws-status")).status_code == 200
        await locked.store.update_user(replace(user, role=Role.USER))
        problem(await client.get("/api/v2/admin/ws-status"), 403, "FORBIDDEN")
        await locked.store.update_user(replace(user, role=Role.USER, token_version=1))
        problem(await client.get("/api/v2/watchlist/1"), 401, "UNAUTHENTICATED")


async def test_repeats_of_another_user_are_not_replayed(locked: World) -> None:
    first, headers = await locked.user("asha")
    second, other = await locked.user("ravi")
    key = {"Idempotency-Key": "same"}
    async with locked.client() as client:
        body = {**ADD, "user_id": first}
        assert (await client.post("/api/v2/watchlist/add", json=body, headers={**headers, **key})).status_code == 200
        problem(await client.post("/api/v2/watchlist/add", json=body, headers={**other, **key}), 403, "FORBIDDEN")
        body = {**ADD, "user_id": second}
        assert (await client.post("/api/v2/watchlist/add", json=body, headers={**other, **key})).status_code == 200


def test_the_clock_of_these_tests_stands_still() -> None:
    assert HandClock().monotonic() == 0.0


def test_no_endpoint_runs_in_a_thread(world: World) -> None:
    import inspect

    found = list(routes_of(world.app))
    assert len(found) > 40
    for path, route in found:
        assert inspect.iscoroutinefunction(route.endpoint), path


async def test_loopback_without_a_token_reads_metrics(client: httpx.AsyncClient) -> None:
    assert (await client.get("/metrics")).status_code == 200


async def test_a_caller_is_told_who_it_is_taken_for(locked: World) -> None:
    user_id, headers = await locked.user("asha", Role.USER)
    async with locked.client() as client:
        told = (await client.get("/api/v2/auth/me", headers=headers)).json()
    assert (told["user_id"], told["name"], told["role"]) == (user_id, "asha", "user")
    assert told["expires_ms"] > locked.clock.now_ms()


async def test_a_topic_is_judged_for_the_caller_as_a_subscribe_would_be(locked: World) -> None:
    user_id, headers = await locked.user("asha", Role.USER)
    asked = [
        "chain:reliance:2026-02-26",
        f"watchlist:{user_id}",
        f"watchlist:{user_id + 1}",
        "quotes:NOSUCH_EQ",
        "chain:RELIANCE:01JAN2030",
        "gossip:RELIANCE",
        "events",
    ]
    async with locked.client() as client:
        answer = await client.get("/api/v2/stream/topics", params=[("topic", text) for text in asked], headers=headers)
        too_many = await client.get("/api/v2/stream/topics", params=[("topic", "events")] * 201, headers=headers)
    told = {each["asked"]: each["code"] or each["topic"] for each in answer.json()["topics"]}
    assert list(told.values()) == [
        "chain:RELIANCE:26FEB2026",
        f"watchlist:{user_id}",
        "FORBIDDEN",
        "INSTRUMENT_UNKNOWN",
        "EXPIRY_UNKNOWN",
        "TOPIC_INVALID",
        "events",
    ]
    problem(too_many, 422, "INVALID_REQUEST")
