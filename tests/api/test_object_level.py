"""Every route and every stream topic, as every kind of caller: who gets in, who does not; a refusal does nothing.

The table has to name each route there is: one that is added without a line here fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from app.cli import users
from app.ports.store import InstrumentType, Role
from app.stream.topics import Kind
from tests.api.support import routes_of
from tests.api.test_endpoints import ADD
from tests.api.test_errors import problem
from tests.api.world import PASSWORD, World, running_world

API = "/api/v2"
OWNER = "the owner's id"
ENTRY = "the id of the owner's entry"
LEG = "RELIANCE_26FEB2026_2640CE"


class For(StrEnum):
    ANYBODY = "anybody"
    USERS = "whoever is signed in"
    OWNERS = "the user it names, and admins"
    ADMINS = "admins"


class As(StrEnum):
    STRANGER = "a stranger"
    DISABLED = "a user who was shut out"
    OTHER = "another user"
    OWN = "the owner"
    ADMIN = "an admin"


LET_IN = {
    For.ANYBODY: frozenset(As),
    For.USERS: frozenset({As.OTHER, As.OWN, As.ADMIN}),
    For.OWNERS: frozenset({As.OWN, As.ADMIN}),
    For.ADMINS: frozenset({As.ADMIN}),
}
NOT_KNOWN = frozenset({As.STRANGER, As.DISABLED})


@dataclass(frozen=True)
class Row:
    """One route: for whom it is, and a request that would do or show something of the owner's."""

    open_to: For
    url: str
    body: Mapping[str, object] | None = None
    form: Mapping[str, str] | None = None


def of_owner(**more: object) -> dict[str, object]:
    return {"user_id": OWNER, **more}


TABLE = {
    # of one user
    "POST /api/v2/watchlist/add": Row(For.OWNERS, "/watchlist/add", {**ADD, "user_id": OWNER, "symbol": "NIFTY",
                                      "instrument_type": "INDEX_OPTION", "expiry": None, "underlying_ltp": None}),
    "GET /api/v2/watchlist/{user_id}": Row(For.OWNERS, f"/watchlist/{OWNER}"),
    "POST /api/v2/watchlist/order": Row(For.OWNERS, "/watchlist/order", of_owner(ids=[ENTRY])),
    "POST /api/v2/watchlist/move": Row(For.OWNERS, "/watchlist/move", of_owner(id=ENTRY, list="swing")),
    "GET /api/v2/watchlists/{user_id}": Row(For.OWNERS, f"/watchlists/{OWNER}"),
    "POST /api/v2/watchlists/create": Row(For.OWNERS, "/watchlists/create", of_owner(name="day")),
    "POST /api/v2/watchlists/rename": Row(For.OWNERS, "/watchlists/rename", of_owner(list="swing", name="long")),
    "POST /api/v2/watchlists/delete": Row(For.OWNERS, "/watchlists/delete", of_owner(list="long")),
    "POST /api/v2/watchlists/order": Row(For.OWNERS, "/watchlists/order", of_owner(lists=["default"])),
    "POST /api/v2/watchlist/remove": Row(For.OWNERS, "/watchlist/remove", of_owner(symbol="NIFTY")),
    "POST /api/v2/option-chain/subscribe": Row(For.OWNERS, "/option-chain/subscribe", of_owner(
                                               symbol="RELIANCE", expiry="26FEB2026", underlying_ltp=2641.5)),
    # of the market, and of the caller
    "GET /api/v2/option-chain/{symbol}": Row(For.USERS, "/option-chain/RELIANCE?expiry=26FEB2026&quotes=true"),
    "GET /api/v2/subscriptions/status": Row(For.USERS, "/subscriptions/status"),
    "GET /api/v2/subscriptions/active": Row(For.USERS, "/subscriptions/active"),
    "GET /api/v2/subscriptions/export.csv": Row(For.USERS, "/subscriptions/export.csv"),
    "GET /api/v2/subscriptions/log": Row(For.USERS, "/subscriptions/log"),
    "GET /api/v2/subscriptions/{token}": Row(For.USERS, f"/subscriptions/{LEG}"),
    "GET /api/v2/bars/{symbol}": Row(For.USERS, "/bars/RELIANCE"),
    "GET /api/v2/instruments/search": Row(For.USERS, "/instruments/search?q=REL"),
    "GET /api/v2/instruments/{symbol}": Row(For.USERS, "/instruments/RELIANCE"),
    "GET /api/v2/instruments/{symbol}/expiries": Row(For.USERS, "/instruments/RELIANCE/expiries"),
    "GET /api/v2/stream/topics": Row(For.USERS, "/stream/topics?topic=status"),
    "GET /api/v2/auth/me": Row(For.USERS, "/auth/me"),
    "GET /metrics": Row(For.USERS, "/metrics"),
    "HEAD /metrics": Row(For.USERS, "/metrics"),
    # of the service
    "POST /api/v2/admin/unsubscribe-all-tier-a": Row(For.ADMINS, "/admin/unsubscribe-all-tier-a"),
    "POST /api/v2/admin/clear-watchlists": Row(For.ADMINS, "/admin/clear-watchlists", of_owner()),
    "POST /api/v2/admin/rebalance-ws": Row(For.ADMINS, "/admin/rebalance-ws"),
    "GET /api/v2/admin/ws-status": Row(For.ADMINS, "/admin/ws-status"),
    "GET /api/v2/admin/registry": Row(For.ADMINS, "/admin/registry"),
    "GET /api/v2/admin/tier-b": Row(For.ADMINS, "/admin/tier-b"),
    "GET /api/v2/admin/access-log": Row(For.ADMINS, "/admin/access-log"),
    "GET /api/v2/admin/viewers": Row(For.ADMINS, "/admin/viewers"),
    # signing in and out: last of all, since the tokens end
    "POST /api/v2/auth/token": Row(For.ANYBODY, "/auth/token", form={"username": "asha", "password": PASSWORD}),
    "POST /api/v2/auth/sign-out": Row(For.USERS, "/auth/sign-out"),
    # health and pages: nothing of anybody's
    **{f"{method} {path}": Row(For.ANYBODY, url or path) for method in ("GET", "HEAD") for path, url in (
        ("/health", ""), ("/ready", ""), ("/", ""), ("/docs", ""), ("/openapi.json", ""),
        ("/docs/start.js", ""), ("/docs/{name}", "/docs/swagger-ui.css"),
        ("/{name}", "/favicon.svg"), ("/assets/{path:path}", "/assets/page.js"),
    )},
}  # fmt: skip


@dataclass(repr=False)
class Cast:
    """The callers: the header each shows, and the owner that the table's requests are about."""

    world: World
    ids: Mapping[As, int]
    headers: Mapping[As, Mapping[str, str]]
    entry: int

    def of_owner(self, told: object) -> Any:
        """A value of the table with the owner's ids in it."""
        if isinstance(told, Mapping):
            return {name: self.of_owner(value) for name, value in told.items()}
        if isinstance(told, list):
            return [self.of_owner(value) for value in told]
        return {OWNER: self.ids[As.OWN], ENTRY: self.entry}.get(told, told) if isinstance(told, str) else told

    async def ask(self, caller: As, route: str, row: Row) -> httpx.Response:
        url = row.url.replace(OWNER, str(self.ids[As.OWN]))
        path = url if f" {API}/" not in route else f"{API}{url}"
        async with self.world.client(headers=dict(self.headers[caller])) as client:
            return await client.request(route.split()[0], path, json=self.of_owner(row.body), data=row.form)

    def state(self) -> object:
        """All that a request of somebody else must leave as it is."""
        owned = self.world.services.watchlists
        user = self.ids[As.OWN]
        subscribed = self.world.services.subscriptions.listed(None, None)
        return (
            [(each.id, each.list_name, each.position) for each in owned.entries(user)],
            [each.name for each in owned.lists(user)],
            owned.explicit_entries(user),
            [wish.instrument.token for wish in subscribed],
        )


@pytest.fixture
async def cast(snapshot: Path, tmp_path: Path) -> AsyncIterator[Cast]:
    """A service that always asks for a token, a user with a chain and a list, and four others."""
    for name in ("index.html", "favicon.svg", "assets/page.js"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("of the page")
    async with running_world(snapshot, auth="required", web_dir=tmp_path) as world:
        ids, headers = {As.STRANGER: 0}, {As.STRANGER: dict[str, str]()}
        names = {As.OWN: "asha", As.OTHER: "ravi", As.DISABLED: "kiran", As.ADMIN: "root"}
        for caller, name in names.items():
            ids[caller], headers[caller] = await world.user(name, Role.ADMIN if caller is As.ADMIN else Role.USER)
        await users.disable(world.store, world.clock, names[As.DISABLED])
        lists, owner = world.services.watchlists, ids[As.OWN]
        made = await lists.add(owner, "RELIANCE", "26FEB2026", InstrumentType.STOCK_OPTION, 2641.5)
        await lists.create_list(owner, "swing")
        yield Cast(world, ids, headers, made.entry.id)


async def test_every_route_is_in_the_table(cast: Cast) -> None:
    described = cast.world.app.openapi()["paths"]
    there = {f"{method} {path}" for path, route in routes_of(cast.world.app) for method in route.methods or ()}
    # GET beside a POST only says that it is none, so that no later route takes its path for a name.
    only_posts = {f"GET {path}" for path, methods in described.items() if "get" not in methods}
    assert there - only_posts == set(TABLE)


@pytest.mark.parametrize("open_to", For)
async def test_a_route_lets_in_whom_it_is_for_and_nobody_else(cast: Cast, open_to: For) -> None:
    rows = {route: row for route, row in TABLE.items() if row.open_to is open_to}
    before = cast.state()
    for route, row in rows.items():
        for caller in As:
            if caller not in LET_IN[open_to]:
                answer = await cast.ask(caller, route, row)
                assert answer.status_code == (401 if caller in NOT_KNOWN else 403), f"{route}: {caller}: {answer.text}"
                assert cast.state() == before, f"{route}: {caller} was refused and changed something"
    for route, row in rows.items():
        for caller in As:
            if caller in LET_IN[open_to]:
                answer = await cast.ask(caller, route, row)
                # What the owner did before cannot be done again: the admin was let in all the same.
                done_before = {404, 409} if (caller, open_to) == (As.ADMIN, For.OWNERS) else set()
                assert answer.status_code in {200} | done_before, f"{route}: {caller}: {answer.text}"


async def test_no_other_spelling_leads_a_user_to_an_admins_route(cast: Cast) -> None:
    spellings = [
        ("/admin/", "/admin%2F"), ("/admin/", "//admin/"), ("/admin/", "/Admin/"), ("/admin/", "/%61dmin/"),
        ("/admin/", "/x/../admin/"), ("/admin/", "/admin;x/"), ("/api/", "//api/"), ("/api/", "/API/"),
    ]  # fmt: skip
    before = cast.state()
    async with cast.world.client(headers=dict(cast.headers[As.OTHER])) as client:
        for route in (route for route, row in TABLE.items() if row.open_to is For.ADMINS):
            method, path = route.split()
            for written, instead in spellings:
                answer = await client.request(method, path.replace(written, instead), json={})
                assert answer.status_code in {401, 403, 404, 405}, answer.url
    assert cast.state() == before


async def test_an_entry_of_another_user_is_not_there(cast: Cast) -> None:
    asked: list[tuple[str, dict[str, object]]] = [
        ("/watchlist/remove", {"symbol": "RELIANCE", "id": ENTRY}),
        ("/watchlist/move", {"id": ENTRY, "list": "default", "copy": True}),
        ("/watchlist/move", {"id": ENTRY, "list": "default"}),
        ("/watchlist/order", {"ids": [ENTRY]}),
    ]
    before = cast.state()
    async with cast.world.client(headers=dict(cast.headers[As.OTHER])) as client:
        for path, body in asked:
            own = {"user_id": cast.ids[As.OTHER], **cast.of_owner(body)}
            problem(await client.post(f"{API}{path}", json=own), 404, "NOT_IN_WATCHLIST")
    assert cast.state() == before


# -- the stream

TOPICS = {
    Kind.CHAIN: (For.USERS, "chain:RELIANCE:26FEB2026"),
    Kind.QUOTES: (For.USERS, "quotes:NIFTY_IDX"),
    Kind.DEPTH: (For.USERS, "depth:RELIANCE_EQ"),
    Kind.WATCHLIST: (For.OWNERS, f"watchlist:{OWNER}"),
    Kind.STATUS: (For.USERS, "status"),
    Kind.EVENTS: (For.USERS, "events"),
}


@dataclass
class Wire:
    """One stream connection of a client that says all it has to say at once."""

    heard: list[dict[str, Any]] = field(default_factory=list)
    closed_with: int | None = None

    async def talk(self, world: World, headers: Mapping[str, str], said: Sequence[Mapping[str, object]]) -> None:
        """Until the service has answered a ping after it, or hung up."""
        done = asyncio.Event()
        events = [{"type": "websocket.connect"}]
        events += [{"type": "websocket.receive", "text": orjson.dumps(each).decode()} for each in (*said, PING)]

        async def receive() -> dict[str, Any]:
            if events:
                return events.pop(0)
            await done.wait()
            return {"type": "websocket.disconnect", "code": 1000}

        async def send(message: Mapping[str, Any]) -> None:
            if message["type"] == "websocket.close":
                self.closed_with = message["code"]
                done.set()
            elif message["type"] == "websocket.send":
                told = orjson.loads(message.get("text") or message["bytes"])
                self.heard.append(told)
                if told["type"] == "pong":
                    done.set()

        shown = [(b"host", b"127.0.0.1:8000"), *((n.lower().encode(), v.encode()) for n, v in headers.items())]
        scope = {"type": "websocket", "path": f"{API}/stream", "headers": shown, "client": ("127.0.0.1", 50_000),
                 "server": ("127.0.0.1", 8000), "scheme": "ws", "query_string": b""}  # fmt: skip
        await asyncio.wait_for(world.stream(scope, receive, send), 10)

    @property
    def codes(self) -> list[str]:
        return [told["code"] for told in self.heard if told["type"] == "error"]


PING = {"op": "ping"}


def test_every_kind_of_topic_is_in_the_table() -> None:
    assert set(TOPICS) == set(Kind)


@pytest.mark.parametrize("op", ["subscribe", "resume"])
async def test_a_topic_is_shown_to_whom_it_is_for_and_nobody_else(cast: Cast, op: str) -> None:
    for open_to, topic in (*TOPICS.values(), (For.OWNERS, f"watchlist:{OWNER}:swing")):
        named = topic.replace(OWNER, str(cast.ids[As.OWN]))
        for caller in As:
            wire = Wire()
            await wire.talk(cast.world, cast.headers[caller], [{"op": op, "topics": [named], "topic": named, "seq": 0}])
            if caller in NOT_KNOWN:
                assert (wire.codes, wire.closed_with) == (["UNAUTHENTICATED"], 4401)
            elif caller in LET_IN[open_to]:
                assert wire.codes == [], f"{caller}, {named}: {wire.heard}"
            else:
                assert wire.codes == ["FORBIDDEN"], f"{caller}, {named}: {wire.heard}"
            assert await _verdict(cast, caller, named) == (wire.codes[0] if wire.codes else None)


async def _verdict(cast: Cast, caller: As, topic: str) -> str | None:
    """What the route that judges topics beforehand says of it."""
    async with cast.world.client(headers=dict(cast.headers[caller])) as client:
        answer = await client.get(f"{API}/stream/topics", params={"topic": topic})
    told = answer.json()
    code: str | None = told["topics"][0]["code"] if answer.status_code == 200 else told["code"]
    return code
