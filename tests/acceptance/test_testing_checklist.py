"""The second half of the user's checklist: testing, deployment and success criteria, a test for each line."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.steps import (
    NewService,
    add,
    chain_rows,
    clear,
    fo_stocks,
    stock_chains,
)
from tests.service import ROOT, Service

# --- Testing checklist: unit tests -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "test_file",
    [
        "tests/unit/test_registry.py", "tests/unit/test_atm_engine.py", "tests/unit/test_subscription_manager.py",
        "tests/unit/test_watchlist_manager.py", "tests/unit/test_ws_manager.py",
    ],
)  # fmt: skip
def test_unit_tests_exist_for_each_manager(test_file: str) -> None:
    found = re.findall(r"^\s*(?:async )?def test_\w+", (ROOT / test_file).read_text(), re.MULTILINE)
    assert len(found) >= 5


# --- Testing checklist: integration tests ----------------------------------------------------------------------------


def test_integration_add_stock_subscribes_50_strikes_and_remove_unsubscribes_them(service: Service) -> None:
    clear(service)
    before = service.status()["tier_a_count"]
    assert add(service, "RELIANCE")["strikes_subscribed"] == 50
    assert service.status()["tier_a_count"] == before + 50
    expiry = service.get("/api/v2/watchlist/1")["watchlist"][0]["expiry_date"]
    removed = service.post("/api/v2/watchlist/remove", {"user_id": 1, "symbol": "RELIANCE", "expiry": expiry}).json()
    assert removed["unsubscribed"] == 50
    assert service.status()["tier_a_count"] == before


def test_integration_25k_reached_then_the_next_add_evicts_the_least_recently_used(new_service: NewService) -> None:
    with new_service("full") as one:
        one.wait_for("Tier B live", 30, lambda: one.status()["states"].get("LIVE", 0) > 8_000)
        tier_b = one.status()["tier_b_count"]
        evicted: list[dict[str, Any]] = []
        order: list[tuple[str, str]] = []
        for symbol, expiry in stock_chains(one, fo_stocks(one)):
            answer = add(one, symbol, user_id=1 + len(order) % 3, expiry=expiry)
            evicted = answer["evicted"]
            if evicted:
                break
            order.append((symbol, expiry))
            assert one.status()["total_subscriptions"] <= 25_000
        assert [(each["symbol"], each["expiry"]) for each in evicted] == order[: len(evicted)]
        assert evicted, "the capacity was never reached"
        status = one.status()
        assert 24_900 <= status["total_subscriptions"] <= 25_000
        assert status["tier_b_count"] == tier_b, "Tier B gave way"
        first = one.get("/api/v2/watchlist/1")["watchlist"][0]
        assert (first["symbol"], first["state"]) == (order[0][0], "EVICTED")
        log = one.get("/api/v2/subscriptions/log", action="RATE_LIMIT_EVICT", limit=50)
        assert log["count"] == 50
        usage = [each["instruments"] for each in one.get("/api/v2/admin/ws-status")["per_connection"].values()]
        assert max(usage) - min(usage) <= 0.01 * 5_000
        one.wait_for("all live", 20, lambda: one.status()["states"].get("LIVE", 0) >= 0.99 * 24_900)


def test_integration_ws_load_balance_distributed_evenly(service: Service) -> None:
    per_connection = service.get("/api/v2/admin/ws-status")["per_connection"]
    usage = [each["instruments"] for each in per_connection.values()]
    assert all(each["active"] for each in per_connection.values())
    assert min(usage) > 0
    assert max(usage) - min(usage) <= 0.01 * 5_000


# --- Testing checklist: API tests ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"symbol": "NOSUCH"}, 404, "INSTRUMENT_UNKNOWN"),
        ({"symbol": "RELIANCE", "expiry": "27FEB2026"}, 404, "EXPIRY_UNKNOWN"),
        ({"symbol": "RELIANCE", "expiry": "soon"}, 404, "EXPIRY_UNKNOWN"),
        ({"symbol": "RELIANCE", "underlying_ltp": -5}, 422, None),
        ({"symbol": "RELIANCE", "instrument_type": "LOTTERY"}, 422, None),
        ({"symbol": "RELIANCE", "user_id": 0}, 422, None),
        ({"symbol": ""}, 422, None),
    ],
)
def test_api_watchlist_add_error_cases(service: Service, body: dict[str, Any], status: int, code: str | None) -> None:
    before = service.status()["total_subscriptions"]
    response = service.post("/api/v2/watchlist/add", {"user_id": 1, "instrument_type": "STOCK_OPTION", **body})
    assert response.status_code == status, response.text
    assert response.headers["content-type"].startswith("application/problem+json")
    problem = response.json()
    assert problem["code"] == code if code else problem["code"]
    assert service.status()["total_subscriptions"] == before


def test_api_watchlist_add_twice_is_409(service: Service) -> None:
    clear(service)
    add(service, "TCS")
    again = service.post("/api/v2/watchlist/add", {"user_id": 1, "symbol": "TCS", "instrument_type": "STOCK_OPTION"})
    assert (again.status_code, again.json()["code"]) == (409, "ALREADY_IN_WATCHLIST")
    clear(service)


def test_api_option_chain_of_all_symbols(service: Service) -> None:
    symbols = [*fo_stocks(service), "NIFTY", "BANKNIFTY", "SENSEX", "CRUDEOIL", "GOLD"]
    assert len(symbols) > 200
    for symbol in symbols:
        expiry = service.get(f"/api/v2/instruments/{symbol}/expiries")["expiries"][0]
        chain = service.get(f"/api/v2/option-chain/{symbol}", expiry=expiry)
        assert chain["strikes"] == sorted(chain["strikes"])
        assert chain["atm_strike"] in chain["strikes"]


def test_api_subscriptions_status_format_and_data(service: Service) -> None:
    counts = service.status()
    assert set(counts) >= {
        "total_subscriptions", "max_capacity", "utilization_percent", "tier_a_count", "tier_b_count", "states",
    }  # fmt: skip
    assert sum(counts["states"].values()) == counts["total_subscriptions"]
    assert counts["utilization_percent"] == pytest.approx(counts["total_subscriptions"] / 250, abs=0.01)


@pytest.mark.parametrize(
    ("query", "first"),
    [("RELIANCE", "RELIANCE"), ("nifty", "NIFTY"), ("RELAINCE", "RELIANCE"), ("nifty 25000 ce", "NIFTY"),
     ("bajaj-auto", "BAJAJ-AUTO")],
)  # fmt: skip
def test_api_search_accuracy(service: Service, query: str, first: str) -> None:
    results = service.get("/api/v2/instruments/search", q=query)["results"]
    assert results
    assert results[0]["symbol"] == first


def test_api_all_16_endpoints_respond_correctly(service: Service) -> None:
    clear(service)
    add(service, "INFY", user_id=7)
    expiry = service.get("/api/v2/watchlist/7")["watchlist"][0]["expiry_date"]
    token = service.get("/api/v2/subscriptions/active", tier="TIER_A")["subscriptions"][0]["token"]
    assert service.get(f"/api/v2/subscriptions/{token}")["why"]
    body = {"user_id": 7, "symbol": "INFY", "expiry": expiry}
    taken = service.post("/api/v2/option-chain/subscribe", {**body, "symbol": "SBIN"}).json()
    assert (len(taken["subscribed"]), taken["failed"]) == (50, [])
    for path in ("/api/v2/subscriptions/log", "/api/v2/instruments/INFY", "/api/v2/admin/ws-status"):
        assert service.get(path)
    for path, extra in (
        ("/api/v2/watchlist/remove", body), ("/api/v2/admin/rebalance-ws", {}), ("/api/v2/admin/clear-watchlists", {}),
        ("/api/v2/admin/unsubscribe-all-tier-a", {}),
    ):  # fmt: skip
        assert service.post(path, extra).status_code == 200, path
    clear(service)


# --- Testing checklist: performance (what holds, not how fast: figures are the benchmark's) --------------------------


def test_performance_rebalance_without_packet_loss(new_service: NewService) -> None:
    with new_service("rebalance") as one:
        one.wait_for("Tier B live", 30, lambda: one.status()["states"].get("LIVE", 0) > 8_000)
        control = one.simulator["control_url"]
        one.http.post(f"{control}/faults", json={"kind": "cut", "connection": 1})
        one.wait_for("back", 20, lambda: one.status()["states"].get("LIVE", 0) > 8_000)
        answer = one.post("/api/v2/admin/rebalance-ws").json()
        assert answer["moved_count"] == len(answer["details"])
        one.wait_for("all live after the move", 20, lambda: one.status()["states"].get("LIVE", 0) > 8_000)
        usage = [each["instruments"] for each in one.get("/api/v2/admin/ws-status")["per_connection"].values()]
        assert max(usage) - min(usage) <= 0.01 * 5_000


# --- Testing checklist: end to end -----------------------------------------------------------------------------------


def test_end_to_end_multiple_users_have_separate_watchlists(service: Service) -> None:
    clear(service)
    for user in (11, 12):
        add(service, "HDFCBANK", user_id=user)
    assert service.status()["tier_a_count"] == 50, "the same chain is shared on the wire"
    expiry = service.get("/api/v2/watchlist/11")["watchlist"][0]["expiry_date"]
    service.wait_for(
        "live", 3, lambda: all(r["state"] == "LIVE" for r in chain_rows(service, "HDFCBANK", expiry).values())
    )
    stop = threading.Event()
    seen: list[str] = []

    def watch() -> None:
        while not stop.is_set():
            seen.extend(row["state"] for row in chain_rows(service, "HDFCBANK", expiry).values())

    watcher = threading.Thread(target=watch)
    watcher.start()
    service.post("/api/v2/watchlist/remove", {"user_id": 11, "symbol": "HDFCBANK"})
    time.sleep(1)
    stop.set()
    watcher.join()
    assert service.get("/api/v2/watchlist/11")["count"] == 0
    assert service.get("/api/v2/watchlist/12")["count"] == 1
    assert service.status()["tier_a_count"] == 50
    assert set(seen) <= {"LIVE", "QUIET"}
    clear(service)


# --- Deployment: what belongs to this delivery -----------------------------------------------------------------------


def test_success_system_starts_without_errors(service: Service) -> None:
    assert "Backend ready!" in service.log
    assert "Traceback" not in service.log
    assert not re.search(r"\b(error|critical)\b", service.log, re.IGNORECASE)


def test_success_kill_9_loses_nothing_answered(new_service: NewService) -> None:
    one = new_service("killed").start()
    one.wait_for("spots", 20, lambda: one.status()["states"].get("LIVE", 0) > 8_000)
    kept = {"RELIANCE", "TCS", "INFY", "SBIN"}
    for symbol in sorted(kept | {"ITC"}):
        add(one, symbol, user_id=5)
    assert one.post("/api/v2/watchlist/remove", {"user_id": 5, "symbol": "ITC"}).status_code == 200
    one.kill()
    one.start()
    assert {each["symbol"] for each in one.get("/api/v2/watchlist/5")["watchlist"]} == kept
    assert one.status()["tier_a_count"] == 50 * len(kept)
    one.stop()


def test_success_documentation_is_complete_and_accurate() -> None:
    mapped = (ROOT / "docs/checklist.md").read_text()
    names = set(re.findall(r"test_\w+", mapped))
    here = {
        name
        for path in Path(__file__).parent.glob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    assert here <= names, f"not mapped in docs/checklist.md: {sorted(here - names)}"
