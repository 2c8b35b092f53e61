"""Every endpoint's success, held to the contract's fields and to its own OpenAPI model."""

from __future__ import annotations

import csv
import io
from datetime import datetime
from typing import Any

import httpx
import orjson
import pytest
from pydantic import BaseModel

from app.rest import more_schemas, schemas
from tests.api.support import IST
from tests.api.world import World

ADD: dict[str, Any] = {
    "user_id": 1,
    "symbol": "RELIANCE",
    "expiry": "26FEB2026",
    "instrument_type": "STOCK_OPTION",
    "underlying_ltp": 2641.5,
}
CHAIN = {"symbol": "RELIANCE", "expiry": "26FEB2026", "underlying_ltp": 2641.5}

# method, path, body, model, what the contract's section 4 says it has
ENDPOINTS: list[tuple[str, str, Any, type[BaseModel], set[str]]] = [
    ("POST", "/watchlist/add", {**ADD, "user_id": 2}, schemas.Added,
     {"success", "message", "option_chain", "strikes_subscribed", "missing", "evicted", "revision"}),
    ("POST", "/watchlist/remove", {"user_id": 1, "symbol": "reliance"}, schemas.Removed,
     {"success", "message", "unsubscribed"}),
    ("GET", "/watchlist/1", None, schemas.Watchlist, {"user_id", "count", "watchlist"}),
    ("GET", "/option-chain/RELIANCE?expiry=26FEB2026&underlying_ltp=2641.5", None, schemas.OptionChain,
     {"symbol", "expiry", "underlying_ltp", "underlying_source", "underlying_age_ms", "exchange", "atm_strike",
      "strike_step", "strikes", "strikes_ce_pe", "cached_at", "cache_ttl_seconds"}),
    ("GET", "/option-chain/RELIANCE?expiry=26FEB2026&quotes=true", None, schemas.OptionChain,
     {"rows", "summary", "coverage"}),
    ("POST", "/option-chain/subscribe", CHAIN, schemas.ChainSubscribed,
     {"subscribed", "failed", "total_subscribed", "option_chain"}),
    ("GET", "/subscriptions/status", None, schemas.Status, {"subscriptions", "websocket"}),
    ("GET", "/subscriptions/active", None, schemas.ActiveSubscriptions, {"tier", "count", "subscriptions"}),
    ("GET", "/subscriptions/active?tier=TIER_A&symbol=RELIANCE&limit=7", None, schemas.ActiveSubscriptions,
     {"tier", "count", "total", "next", "subscriptions"}),
    ("GET", "/subscriptions/log?limit=3", None, schemas.SubscriptionLog, {"count", "next", "log"}),
    ("GET", "/subscriptions/RELIANCE_26FEB2026_2640CE", None, schemas.SubscriptionDetail,
     {"token", "details", "why"}),
    ("GET", "/instruments/search?q=REL", None, schemas.SearchResults, {"query", "count", "results"}),
    ("GET", "/instruments/RELIANCE", None, schemas.InstrumentInfo,
     {"lot_size", "tick", "strike_step", "segments", "f_o_eligible", "nearest_future"}),
    ("GET", "/instruments/RELIANCE/expiries", None, schemas.Expiries, {"symbol", "expiries", "count"}),
    ("GET", "/bars/RELIANCE?expiry=26FEB2026", None, more_schemas.Bars, {"start_ms", "count", "open", "chain"}),
    ("POST", "/admin/unsubscribe-all-tier-a", None, schemas.TierACleared, {"action", "count", "message"}),
    ("POST", "/admin/clear-watchlists", {}, schemas.WatchlistsCleared,
     {"action", "user_id", "success", "cleared_count"}),
    ("GET", "/admin/ws-status", None, schemas.WsStatus,
     {"total_subscriptions", "max_capacity", "utilization_percent", "connected_connections", "total_connections",
      "per_connection"}),
    ("POST", "/admin/rebalance-ws", None, schemas.Rebalanced, {"action", "moved_count", "details"}),
]  # fmt: skip


async def add(client: httpx.AsyncClient, **changed: Any) -> dict[str, Any]:
    answer = await client.post("/api/v2/watchlist/add", json={**ADD, **changed})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def get(client: httpx.AsyncClient, path: str, **query: Any) -> dict[str, Any]:
    answer = await client.get(f"/api/v2{path}", params=query or None)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


@pytest.mark.parametrize(("method", "path", "body", "model", "named"), ENDPOINTS, ids=[each[1] for each in ENDPOINTS])
async def test_every_endpoint_answers_as_described(
    client: httpx.AsyncClient, method: str, path: str, body: Any, model: type[BaseModel], named: set[str]
) -> None:
    await add(client)
    answer = await client.request(method, f"/api/v2{path}", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    told = orjson.loads(answer.content)  # stricter than the standard library: no NaN
    assert named <= told.keys()
    model.model_validate(told)


async def test_a_stock_chain_is_fifty_instruments(world: World, client: httpx.AsyncClient) -> None:
    before = (await get(client, "/subscriptions/status"))["subscriptions"]["tier_a_count"]
    added = await add(client)
    assert added["success"] is True
    assert added["strikes_subscribed"] == 50
    assert added["missing"] == []
    assert len(added["option_chain"]["strikes"]) == 25
    assert added["option_chain"]["atm_strike"] == 2640.0
    assert added["option_chain"]["underlying_source"] == "request"
    counts = (await get(client, "/subscriptions/status"))["subscriptions"]
    assert counts["tier_a_count"] == before + 50
    await world.settle()
    live = await get(client, "/subscriptions/active", tier="TIER_A", symbol="reliance")
    assert live["count"] == 50
    assert {row["state"] for row in live["subscriptions"]} == {"LIVE"}
    removed = await client.post("/api/v2/watchlist/remove", json={"user_id": 1, "symbol": "RELIANCE"})
    assert removed.json()["unsubscribed"] == 50


async def test_two_users_own_one_chain(client: httpx.AsyncClient) -> None:
    await add(client)
    await add(client, user_id=2)
    rows = (await get(client, "/subscriptions/active", tier="TIER_A"))["subscriptions"]
    assert {row["owners"] for row in rows} == {2}
    removed = await client.post("/api/v2/watchlist/remove", json={"user_id": 1, "symbol": "RELIANCE"})
    assert removed.json()["unsubscribed"] == 0
    assert (await get(client, "/watchlist/1"))["count"] == 0
    assert (await get(client, "/watchlist/2"))["count"] == 1
    assert (await get(client, "/subscriptions/active", tier="TIER_A"))["count"] == 50


@pytest.mark.parametrize(
    ("symbol", "expiry", "instrument_type", "count"),
    [
        ("RELIANCE", None, "EQUITY", 1),
        ("RELIANCE", "24FEB2026", "FUTURE", 1),
        ("NIFTY50", None, "INDEX_OPTION", 202),
        ("nifty 50", None, "INDEX_OPTION", 202),
        ("CRUDEOIL", None, "COMMODITY_OPTION", 202),
        ("M&M", None, "STOCK_OPTION", 50),
    ],
)
async def test_every_kind_of_entry(
    client: httpx.AsyncClient, symbol: str, expiry: str | None, instrument_type: str, count: int
) -> None:
    ltp = {"CRUDEOIL": 6_000.0, "M&M": 3_200.0}.get(symbol)
    added = await add(client, symbol=symbol, expiry=expiry, instrument_type=instrument_type, underlying_ltp=ltp)
    assert added["strikes_subscribed"] + len(added["missing"]) == count
    listed = (await get(client, "/watchlist/1"))["watchlist"]
    assert listed[0]["instrument_type"] == instrument_type
    assert (listed[0]["expiry_date"] is None) is (instrument_type == "EQUITY")


@pytest.mark.parametrize("expiry", ["26FEB2026", "26-FEB-2026", "2026-02-26", " 26feb2026 "])
async def test_expiries_are_read_in_every_form_and_written_in_one(client: httpx.AsyncClient, expiry: str) -> None:
    chain = await get(client, "/option-chain/RELIANCE", expiry=expiry, underlying_ltp=2641.5)
    assert chain["expiry"] == "26FEB2026"
    assert chain["exchange"] == "BSE"


@pytest.mark.parametrize(("ltp", "atm"), [(2641.5, 2640), (2649.99, 2640), (2650, 2660), (2655, 2660), (2659, 2660)])
async def test_a_given_price_wins_for_its_request(client: httpx.AsyncClient, ltp: float, atm: float) -> None:
    await get(client, "/option-chain/RELIANCE", expiry="26FEB2026", underlying_ltp=2641.5)
    chain = await get(client, "/option-chain/RELIANCE", expiry="26FEB2026", underlying_ltp=ltp)
    assert (chain["underlying_ltp"], chain["underlying_source"]) == (ltp, "request")
    assert chain["atm_strike"] == atm
    assert len(chain["strikes"]) == 25
    pair = chain["strikes_ce_pe"][str(atm)]
    assert pair == {"CE": f"RELIANCE_26FEB2026_{atm}CE", "PE": f"RELIANCE_26FEB2026_{atm}PE"}


async def test_the_price_of_the_feed_is_used_and_aged(world: World, client: httpx.AsyncClient) -> None:
    chain = await get(client, "/option-chain/RELIANCE", expiry="26FEB2026")
    assert (chain["underlying_ltp"], chain["underlying_source"]) == (2641.5, "live")
    world.clock.advance(400)
    chain = await get(client, "/option-chain/RELIANCE", expiry="26FEB2026")
    assert chain["underlying_age_ms"] == 400_000


async def test_the_told_atm_fits_the_told_price_whatever_the_window_was_centred_on(client: httpx.AsyncClient) -> None:
    await get(client, "/option-chain/RELIANCE", expiry="26FEB2026", underlying_ltp=2659)
    chain = await get(client, "/option-chain/RELIANCE", expiry="26FEB2026", quotes="true")
    assert (chain["underlying_ltp"], chain["atm_strike"]) == (2641.5, 2640)
    assert chain["summary"]["atm_strike"] == 2640
    taken = (await client.post("/api/v2/watchlist/add", json={**ADD, "underlying_ltp": 2655})).json()["option_chain"]
    assert (taken["underlying_ltp"], taken["atm_strike"]) == (2655, 2660)


@pytest.mark.parametrize("user_id", [1, 2**31, 2**52])
async def test_any_positive_integer_is_a_user(client: httpx.AsyncClient, user_id: int) -> None:
    assert (await client.post("/api/v2/watchlist/add", json={**ADD, "user_id": user_id})).status_code == 200
    assert (await get(client, f"/watchlist/{user_id}"))["user_id"] == user_id
    cleared = await client.post("/api/v2/admin/clear-watchlists", json={"user_id": user_id})
    assert cleared.json()["cleared_count"] == 1


async def test_looking_subscribes_nothing(client: httpx.AsyncClient) -> None:
    before = await get(client, "/subscriptions/status")
    await get(client, "/option-chain/RELIANCE", expiry="26FEB2026", quotes="true")
    assert (await get(client, "/subscriptions/status"))["subscriptions"] == before["subscriptions"]


async def test_quotes_are_the_streams_rows(world: World, client: httpx.AsyncClient) -> None:
    await add(client)
    await world.settle()
    chain = await get(client, "/option-chain/RELIANCE", expiry="26FEB2026", quotes="true")
    row = chain["rows"]["RELIANCE_26FEB2026_2640CE"]
    assert (row["ltp"], row["bid"], row["ask"], row["state"]) == (100.0, 99.95, 100.05, "LIVE")
    assert set(schemas.LiveRow.model_fields) <= row.keys()
    assert chain["coverage"]["live"] == 50
    assert chain["coverage"]["missing"] == 0
    schemas.ChainSummary.model_validate(chain["summary"])
    assert chain["summary"]["underlying_source"] == "live"
    assert len(chain["rows"]) == 50


async def test_export_has_every_subscription_on_a_line(world: World, client: httpx.AsyncClient) -> None:
    await add(client)
    await world.settle()
    answer = await client.get("/api/v2/subscriptions/export.csv", params={"symbol": "reliance", "tier": "TIER_A"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="subscriptions.csv"'
    lines = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    active = await get(client, "/subscriptions/active", symbol="RELIANCE", tier="TIER_A")
    assert [line["token"] for line in lines] == [row["token"] for row in active["subscriptions"]]
    assert len(lines) == 50
    legs = {line["token"]: line for line in lines}
    leg = legs["RELIANCE_26FEB2026_2640CE"]
    assert (leg["strike"], leg["option_type"], leg["state"], leg["owners"]) == ("2640.0", "CE", "LIVE", "1")
    whole = (await client.get("/api/v2/subscriptions/export.csv")).text
    assert whole.count("\r\n") == 1 + (await get(client, "/subscriptions/active"))["count"]
    unknown = await client.get("/api/v2/subscriptions/export.csv", params={"symbol": "NOSUCHNAME"})
    assert unknown.json()["code"] == "INSTRUMENT_UNKNOWN"


async def test_quotes_of_an_unsubscribed_chain_are_unknown_not_invented(client: httpx.AsyncClient) -> None:
    chain = await get(client, "/option-chain/RELIANCE", expiry="26FEB2026", quotes="true", underlying_ltp=2500)
    for row in chain["rows"].values():
        assert row["ltp"] is None
        assert row["state"] == "NOT_SUBSCRIBED"
    assert (chain["summary"]["underlying_ltp"], chain["summary"]["underlying_source"]) == (2500, "request")


async def test_an_explicit_chain_is_the_callers_own(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/v2/option-chain/subscribe", json=CHAIN)
    taken = answer.json()
    assert taken["total_subscribed"] == len(taken["subscribed"]) == 50
    assert taken["failed"] == []
    assert "RELIANCE_26FEB2026_2640CE" in taken["subscribed"]
    assert (await get(client, "/watchlist/1"))["count"] == 0
    answer = await client.post("/api/v2/option-chain/subscribe", json={**CHAIN, "action": "release"})
    assert answer.json()["released"] == 50
    assert (await get(client, "/subscriptions/status"))["subscriptions"]["tier_a_count"] == 0


async def test_pages_of_active_subscriptions_meet_without_gap(client: httpx.AsyncClient) -> None:
    await add(client)
    whole = await get(client, "/subscriptions/active")
    seen: list[str] = []
    cursor: str | None = None
    for _ in range(100):
        page = await get(client, "/subscriptions/active", limit=23, **({"cursor": cursor} if cursor else {}))
        assert page["total"] == whole["count"]
        assert page["count"] == len(page["subscriptions"]) <= 23
        seen.extend(row["token"] for row in page["subscriptions"])
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == [row["token"] for row in whole["subscriptions"]]
    assert len(set(seen)) == len(seen)


async def test_tiers_and_symbols_filter(client: httpx.AsyncClient) -> None:
    await add(client)
    status = (await get(client, "/subscriptions/status"))["subscriptions"]
    for tier, count in (("TIER_A", status["tier_a_count"]), ("TIER_B", status["tier_b_count"])):
        rows = await get(client, "/subscriptions/active", tier=tier)
        assert (rows["tier"], rows["count"]) == (tier, count)
        assert {row["tier"] for row in rows["subscriptions"]} == {tier}
    only = await get(client, "/subscriptions/active", symbol="nifty 50")
    assert {row["symbol"] for row in only["subscriptions"]} <= {"NIFTY"}


async def test_the_log_is_newest_first_and_pages(world: World, client: httpx.AsyncClient) -> None:
    await add(client)
    await client.post("/api/v2/watchlist/remove", json={"user_id": 1, "symbol": "RELIANCE"})
    seen: list[int] = []
    cursor: str | None = None
    for _ in range(100):
        page = await get(client, "/subscriptions/log", limit=40, **({"cursor": cursor} if cursor else {}))
        seen.extend(line["id"] for line in page["log"])
        cursor = page["next"]
        if cursor is None:
            break
    assert len(seen) == 100
    assert seen == sorted(seen, reverse=True)
    only = await get(client, "/subscriptions/log", token="reliance_26feb2026_2640ce", action="UNSUBSCRIBE")
    assert [line["instrument_token"] for line in only["log"]] == ["RELIANCE_26FEB2026_2640CE"]
    assert datetime.fromisoformat(only["log"][0]["timestamp"]) == world.clock.now()
    assert only["log"][0]["timestamp"].endswith("+05:30")
    later = world.clock.now().astimezone(IST).replace(hour=23).isoformat()
    assert (await get(client, "/subscriptions/log", since=later))["count"] == 0


async def test_fixed_paths_win_over_tokens(client: httpx.AsyncClient) -> None:
    for name, field in (("status", "subscriptions"), ("active", "subscriptions"), ("log", "log")):
        assert field in await get(client, f"/subscriptions/{name}")


@pytest.mark.parametrize(
    ("path", "symbol"),
    [
        ("M%26M", "M&M"),
        ("m&m", "M&M"),
        ("NIFTY%2050", "NIFTY"),
        ("BAJAJ-AUTO", "BAJAJ-AUTO"),
        (" reliance ", "RELIANCE"),
    ],
)
async def test_odd_symbols_in_paths(client: httpx.AsyncClient, path: str, symbol: str) -> None:
    assert (await get(client, f"/instruments/{path}"))["symbol"] == symbol
    assert (await get(client, f"/instruments/{path}/expiries"))["symbol"] == symbol


async def test_odd_tokens_in_paths(client: httpx.AsyncClient) -> None:
    for text, token in (
        ("M%26M_EQ", "M&M_EQ"),
        ("nifty%2050_idx", "NIFTY_IDX"),
        ("BSE:RELIANCE_EQ", "BSE:RELIANCE_EQ"),
    ):
        assert (await get(client, f"/subscriptions/{text}"))["token"] == token
    by_key = await get(client, "/subscriptions/GOLD_FUT")
    assert (await get(client, f"/subscriptions/{by_key['details']['key']}"))["token"] == by_key["token"]


async def test_why_says_what_happened(world: World, client: httpx.AsyncClient) -> None:
    token = "RELIANCE_26FEB2026_2640CE"
    assert "never subscribed" in (await get(client, f"/subscriptions/{token}"))["why"]
    await add(client)
    waiting = await get(client, f"/subscriptions/{token}")
    assert waiting["details"]["state"] in ("WANTED", "SENT", "LIVE")
    await world.settle()
    live = await get(client, f"/subscriptions/{token}")
    assert live["details"]["state"] == "LIVE"
    assert f"socket {live['details']['ws_id']}" in live["why"]
    await client.post("/api/v2/watchlist/remove", json={"user_id": 1, "symbol": "RELIANCE"})
    gone = await get(client, f"/subscriptions/{token}")
    assert gone["details"]["state"] == "NOT_SUBSCRIBED"
    assert "UNSUBSCRIBE" in gone["why"]
    assert gone["details"]["ltp"] in (None, 100.0)


async def test_search_understands_people(client: httpx.AsyncClient) -> None:
    assert (await get(client, "/instruments/search", q="REL", limit=1))["results"][0]["symbol"] == "RELIANCE"
    assert (await get(client, "/instruments/search", q="RELIANSE"))["results"][0]["symbol"] == "RELIANCE"
    found = await get(client, "/instruments/search", q="nifty 25000 ce", limit=5)
    assert found["results"][0]["token"].endswith("_25000CE")
    assert found["count"] == len(found["results"]) <= 5
    assert (await get(client, "/instruments/search", q="zzzzqqqq"))["results"] == []


async def test_admin_clears_one_list_or_all(client: httpx.AsyncClient) -> None:
    for user_id in (1, 2, 3):
        await add(client, user_id=user_id)
    one = await client.post("/api/v2/admin/clear-watchlists", json={"user_id": 2})
    assert one.json() == {"action": "clear_watchlists", "user_id": 2, "success": True, "cleared_count": 1}
    rest = await client.post("/api/v2/admin/clear-watchlists")
    assert (rest.json()["user_id"], rest.json()["cleared_count"]) == (None, 2)
    assert (await get(client, "/subscriptions/status"))["subscriptions"]["tier_a_count"] == 0


async def test_admin_ends_tier_a_and_leaves_tier_b(client: httpx.AsyncClient) -> None:
    await add(client)
    before = (await get(client, "/subscriptions/status"))["subscriptions"]
    answer = (await client.post("/api/v2/admin/unsubscribe-all-tier-a")).json()
    assert answer["count"] == 50
    after = (await get(client, "/subscriptions/status"))["subscriptions"]
    assert (after["tier_a_count"], after["tier_b_count"]) == (0, before["tier_b_count"])


async def test_rebalance_says_what_it_moves(world: World, client: httpx.AsyncClient) -> None:
    await add(client)
    await world.settle()
    told = (await client.post("/api/v2/admin/rebalance-ws")).json()
    assert told["moved_count"] == sum(move["count"] for move in told["details"])
    await world.settle()
    loads = [line["instruments"] for line in (await get(client, "/admin/ws-status"))["per_connection"].values()]
    assert max(loads) - min(loads) <= 1


async def test_reports_for_administrators(client: httpx.AsyncClient) -> None:
    registry = await get(client, "/admin/registry")
    assert {"source", "date", "rows_by_segment", "left_out", "last_refused"} <= registry.keys()
    tier_b = await get(client, "/admin/tier-b")
    assert tier_b["asked"] == tier_b["listed"]
    assert tier_b["missing"] == []


async def test_money_is_exact_and_times_have_an_offset(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/v2/option-chain/RELIANCE?expiry=26FEB2026")
    assert b'"underlying_ltp":2641.5,' in answer.content
    assert datetime.fromisoformat(answer.json()["cached_at"]).utcoffset() is not None
