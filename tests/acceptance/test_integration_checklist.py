"""The user's own checklist, line by line; each test is named after its line. ``docs/checklist.md`` maps them.

Commands run as the document writes them, on the day it was written (``BT_SIM_DATE=2026-02-03``).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import importlib
import json
import re
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from websockets.sync.client import connect

from tests.service import ROOT, Service

IST = ZoneInfo("Asia/Kolkata")
NewService = Callable[..., Service]
MODULES = (
    "app.market.instrument_master.registry",
    "app.market.registry",
    "app.market.atm_engine",
    "app.market.subscription_manager",
    "app.market.watchlist_manager",
    "app.market.ws_manager",
    "app.market.live_prices",
    "app.rest.market_api_v2",
    "app.storage.models",
    "app.lifecycle.hooks",
    "app.dhan.live_feed",
    "app.main",
)


def run_python(code: str, tmp_path: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    service = Service(tmp_path, settings)
    tmp_path.mkdir(parents=True, exist_ok=True)
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=service.environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )


def add(service: Service, symbol: str, user_id: int = 1, **more: Any) -> dict[str, Any]:
    body = {"user_id": user_id, "symbol": symbol, "instrument_type": "STOCK_OPTION", **more}
    response = service.post("/api/v2/watchlist/add", body)
    assert response.status_code in (200, 201), response.text
    answer: dict[str, Any] = response.json()
    return answer


def clear(service: Service) -> None:
    assert service.post("/api/v2/admin/clear-watchlists").status_code == 200
    assert service.post("/api/v2/admin/unsubscribe-all-tier-a").status_code == 200
    assert service.status()["tier_a_count"] == 0


def tables(service: Service) -> set[str]:
    with contextlib.closing(sqlite3.connect(service.directory / "app.db")) as database:
        return {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def columns(service: Service, table: str) -> set[str]:
    with contextlib.closing(sqlite3.connect(service.directory / "app.db")) as database:
        return {row[1] for row in database.execute(f"PRAGMA table_info({table})")}


def chain_rows(service: Service, symbol: str, expiry: str) -> dict[str, Any]:
    rows: dict[str, Any] = service.get(f"/api/v2/option-chain/{symbol}", expiry=expiry, quotes="true")["rows"]
    return rows


# --- Phase 1: core infrastructure ------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", MODULES)
def test_phase1_module_created(module: str) -> None:
    assert importlib.import_module(module).__doc__


def test_phase1_registry_indexes_289k_instruments(service: Service) -> None:
    report = service.get("/api/v2/admin/registry")
    assert 280_000 <= report["rows"] <= 300_000


def test_phase1_16_rest_api_endpoints(service: Service) -> None:
    paths = service.get("/openapi.json")["paths"]
    wanted = [
        ("post", "/api/v2/watchlist/add"), ("post", "/api/v2/watchlist/remove"), ("get", "/api/v2/watchlist/{user_id}"),
        ("get", "/api/v2/option-chain/{symbol}"), ("post", "/api/v2/option-chain/subscribe"),
        ("get", "/api/v2/subscriptions/status"), ("get", "/api/v2/subscriptions/active"),
        ("get", "/api/v2/subscriptions/log"), ("get", "/api/v2/subscriptions/{token}"),
        ("get", "/api/v2/instruments/search"), ("get", "/api/v2/instruments/{symbol}"),
        ("get", "/api/v2/instruments/{symbol}/expiries"), ("post", "/api/v2/admin/unsubscribe-all-tier-a"),
        ("post", "/api/v2/admin/clear-watchlists"), ("get", "/api/v2/admin/ws-status"),
        ("post", "/api/v2/admin/rebalance-ws"),
    ]  # fmt: skip
    assert len(wanted) == 16
    for method, path in wanted:
        assert method in paths.get(path, {}), f"{method} {path}"


@pytest.mark.parametrize(
    ("table", "wanted"),
    [
        ("watchlist", "id user_id symbol expiry_date instrument_type added_at added_order"),
        ("subscriptions", "id instrument_token symbol expiry_date strike_price option_type tier subscribed_at "
            "ws_connection_id active"),
        ("atm_cache", "id underlying_symbol expiry_date current_ltp atm_strike strike_step cached_at "
            "generated_strikes"),
        ("subscription_log", "id action instrument_token reason timestamp"),
    ],
)  # fmt: skip
def test_phase1_database_schema(service: Service, table: str, wanted: str) -> None:
    assert set(wanted.split()) <= columns(service, table)


def test_phase1_documentation_says_where_each_document_lives() -> None:
    readme = (ROOT / "README.md").read_text()
    for name in (
        "TWO_TIER_SYSTEM_COMPLETE.md", "API_REFERENCE.md", "IMPLEMENTATION_SUMMARY.md", "ARCHITECTURE_DIAGRAM.md",
        "README_TWO_TIER_SYSTEM.md",
    ):  # fmt: skip
        assert name in readme
    for path in re.findall(r"\((docs/[^)#]+)\)", readme):
        assert (ROOT / path).exists(), path


# --- Phase 2: integration --------------------------------------------------------------------------------------------


def test_phase2_apscheduler_is_installed_and_in_requirements() -> None:
    assert re.search(r"^apscheduler==3\.", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert importlib.import_module("apscheduler")


def test_phase2_verify_all_imports_in_new_modules(tmp_path: Path) -> None:
    code = f"import importlib\nfor name in {MODULES!r}: importlib.import_module(name)\nprint('imported')"
    done = run_python(code, tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, "imported"), done.stderr
    assert not list(tmp_path.glob("*.db")), "importing made a database"


def test_phase2_test_imports(tmp_path: Path) -> None:
    done = run_python("from app.market.registry import REGISTRY", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_phase2_migration_creates_4_new_tables(service: Service) -> None:
    assert {"watchlist", "subscriptions", "atm_cache", "subscription_log", "users"} <= tables(service)


def test_phase2_uvicorn_with_reload_starts_and_says_backend_ready(new_service: NewService) -> None:
    one = new_service("reload")
    one.command = (
        "-m",
        "uvicorn",
        "app.main:app",
        "--reload",
        "--reload-dir",
        str(one.directory),
        "--port",
        str(one.port),
    )
    with one:
        one.wait_for("the start-up log", 10, lambda: "Backend ready!" in one.log)
        assert "EOD scheduler started (3:30 PM IST)" in one.log
        assert "Traceback" not in one.log
        assert one.http.get(f"{one.url}/health").json()["status"] in ("healthy", "degraded")


def test_phase2_health_check(service: Service) -> None:
    health = service.get("/health")
    assert health["status"] == "healthy", health["reasons"]
    assert {"subscriptions", "websocket_status"} <= set(health)


def test_phase2_instrument_search(service: Service) -> None:
    found = service.get("/api/v2/instruments/search", q="REL")
    assert found["query"] == "REL"
    assert "RELIANCE" in [each["symbol"] for each in found["results"]]


def test_phase2_expiries(service: Service) -> None:
    answer = service.get("/api/v2/instruments/RELIANCE/expiries")
    assert answer["symbol"] == "RELIANCE"
    assert answer["count"] == len(answer["expiries"]) >= 3
    days = [dt.datetime.strptime(each, "%d%b%Y") for each in answer["expiries"]]
    assert days == sorted(days)


def test_phase2_option_chain(service: Service) -> None:
    chain = service.get("/api/v2/option-chain/RELIANCE", expiry="26FEB2026", underlying_ltp=2641.5)
    assert (chain["symbol"], chain["expiry"]) == ("RELIANCE", "26FEB2026")
    assert (chain["underlying_ltp"], chain["underlying_source"]) == (2641.5, "request")
    assert chain["atm_strike"] == 2640
    assert len(chain["strikes"]) == 25
    assert len(chain["strikes_ce_pe"]) == 25


def test_phase2_subscription_status(service: Service) -> None:
    status = service.get("/api/v2/subscriptions/status")
    counts = status["subscriptions"]
    assert counts["max_capacity"] == 25_000
    assert counts["total_subscriptions"] == counts["tier_a_count"] + counts["tier_b_count"]
    assert set(status["websocket"]["per_connection"]) == {f"ws_{n}" for n in range(1, 6)}


def test_phase2_watchlist_add(service: Service) -> None:
    clear(service)
    answer = add(service, "RELIANCE", expiry="26FEB2026", underlying_ltp=2641.5)
    assert answer["success"] is True
    assert answer["strikes_subscribed"] + len(answer["missing"]) == 50
    clear(service)


# --- Phase 3: end-of-day scheduler -----------------------------------------------------------------------------------


def test_phase3_eod_cleanup_called_by_hand(tmp_path: Path) -> None:
    code = """
from app.lifecycle.hooks import eod_cleanup
from app.market.subscription_manager import get_subscription_manager
from app.market.watchlist_manager import get_watchlist_manager
added = get_watchlist_manager().add_to_watchlist(
    user_id=1, symbol="RELIANCE", expiry="26FEB2026", instrument_type="STOCK_OPTION", underlying_ltp=2641.5)
assert added["strikes_subscribed"] == 50, added
assert get_subscription_manager().get_ws_stats()["tier_a_count"] == 50
eod_cleanup()
assert get_subscription_manager().get_ws_stats()["tier_a_count"] == 0
assert get_watchlist_manager().get_user_watchlist(1) == []
print("clean")
"""
    done = run_python(code, tmp_path)
    assert (done.returncode, done.stdout.strip().splitlines()[-1:]) == (0, ["clean"]), done.stderr


def test_phase3_scheduler_has_the_end_of_day_planned(tmp_path: Path) -> None:
    code = "from app.lifecycle.hooks import scheduler; print(sorted(job.id for job in scheduler.get_jobs()))"
    done = run_python(code, tmp_path)
    assert "'end_of_day'" in done.stdout, done.stderr


def next_minute(lead_s: float = 8.0) -> dt.datetime:
    return (dt.datetime.now(IST) + dt.timedelta(seconds=lead_s + 60)).replace(second=0, microsecond=0)


def test_phase3_eod_cleanup_runs_at_its_minute_and_after_downtime(new_service: NewService) -> None:
    due = next_minute(20)
    running = new_service("running", BT_EOD_TIME=f"{due:%H:%M}")
    down = new_service("down", BT_EOD_TIME=f"{due:%H:%M}")
    for one in (running, down):
        one.launch()
    for one in (running, down):
        one.wait_ready()
        add(one, "RELIANCE", expiry="26FEB2026", underlying_ltp=2641.5)
    assert dt.datetime.now(IST) < due, "too slow to see the moment come"
    down.stop()
    assert f"EOD scheduler started ({due:%-I:%M %p} IST)" in running.log
    time.sleep(max(0.0, (due - dt.datetime.now(IST)).total_seconds()))
    running.wait_for("end of day", 10, lambda: running.status()["tier_a_count"] == 0)
    down.start()
    for one in (running, down):
        assert one.status()["tier_a_count"] == 0
        assert one.get("/api/v2/watchlist/1")["count"] == 0
        log = one.get("/api/v2/subscriptions/log", action="EOD_CLEANUP")["log"]
        assert len(log) >= 1
        assert "[EOD] Cleanup complete" in one.log
        one.wait_for("Tier B", 30, lambda one=one: one.status()["tier_b_count"] > 8_000)
    add(down, "RELIANCE", expiry="26FEB2026", underlying_ltp=2641.5)
    down.stop()
    down.start()
    assert down.status()["tier_a_count"] == 50, "an add after the end of day lives until the next one"


# --- Phase 4: Tier B -------------------------------------------------------------------------------------------------


def test_phase4_get_current_ltp_from_the_feed(service: Service) -> None:
    chain = service.get(
        "/api/v2/option-chain/NIFTY", expiry=service.get("/api/v2/instruments/NIFTY/expiries")["expiries"][0]
    )
    assert chain["underlying_source"] == "live"
    assert chain["underlying_ltp"] > 0


def test_phase4_index_chains_with_all_strikes_ce_and_pe(service: Service) -> None:
    active = service.get("/api/v2/subscriptions/active", tier="TIER_B")["subscriptions"]
    legs: dict[tuple[str, str], set[tuple[float, str]]] = {}
    for row in active:
        if row["option_type"]:
            legs.setdefault((row["symbol"], row["expiry"]), set()).add((row["strike"], row["option_type"]))
    chains = {symbol: sum(1 for s, _ in legs if s == symbol) for symbol, _ in legs}
    assert chains == {
        "NIFTY": 12, "BANKNIFTY": 5, "SENSEX": 8, "FINNIFTY": 4, "MIDCPNIFTY": 4, "BANKEX": 4,
        "CRUDEOIL": 2, "NATURALGAS": 2,
    }  # fmt: skip
    assert {chain: len(found) for chain, found in legs.items()} == dict.fromkeys(legs, 202)


def test_phase4_mcx_futures_are_subscribed(service: Service) -> None:
    active = service.get("/api/v2/subscriptions/active", tier="TIER_B")["subscriptions"]
    futures = {row["symbol"] for row in active if row["token"].endswith("_FUT")}
    assert {"GOLD", "SILVER", "CRUDEOIL", "NATURALGAS", "COPPER"} <= futures
    assert service.get("/api/v2/subscriptions/GOLD_FUT")["details"]["state"] == "LIVE"


def test_phase4_about_8500_in_tier_b_and_none_missing(service: Service) -> None:
    assert 8_250 <= service.status()["tier_b_count"] <= 8_750
    assert service.get("/api/v2/admin/tier-b")["missing"] == []


# --- Phase 5: the feed -----------------------------------------------------------------------------------------------


def test_phase5_subscriptions_reach_the_wire_with_real_segment_and_security_id(service: Service) -> None:
    clear(service)
    answer = add(service, "RELIANCE", expiry="26FEB2026", underlying_ltp=2641.5)
    stats = service.http.get(service.simulator["control_url"] + "/stats").json()
    assert answer["strikes_subscribed"] == 50

    def on_the_wire() -> bool:
        now = service.http.get(service.simulator["control_url"] + "/stats").json()
        return sum(each["instruments"] for each in now["connections"]) >= sum(
            each["instruments"] for each in stats["connections"]
        )

    service.wait_for("the wire", 3, on_the_wire)
    service.wait_for(
        "RELIANCE live within 2 s", 2.5,
        lambda: all(row["state"] == "LIVE" for row in chain_rows(service, "RELIANCE", "26FEB2026").values()),
    )  # fmt: skip
    clear(service)


@pytest.mark.parametrize("count", [100, 1_000, 10_000])
def test_phase5_with_n_subscriptions(new_service: NewService, tmp_path: Path, count: int) -> None:
    empty = tmp_path / "none.toml"
    empty.write_text("[drivers]\nfo_stocks = true\n")
    with new_service(f"n{count}", BT_TIER_B=str(empty)) as one:
        drivers = one.status()["tier_b_count"]
        symbols = fo_stocks(one)
        one.wait_for("spots", 20, lambda: one.status()["states"].get("LIVE", 0) >= drivers * 0.99)
        wanted = count - drivers if count > drivers else count
        added = 0
        for symbol, expiry in stock_chains(one, symbols):
            if added >= wanted:
                break
            added += add(one, symbol, expiry=expiry)["strikes_subscribed"]
        total = one.status()["total_subscriptions"]
        assert total == drivers + added
        one.wait_for("all live", 30, lambda: one.status()["states"].get("LIVE", 0) >= total * 0.995)


def fo_stocks(service: Service) -> list[str]:
    drivers = service.get("/api/v2/admin/tier-b")["drivers"]
    return [token.removesuffix("_EQ") for token in drivers if token.endswith("_EQ")]


def stock_chains(service: Service, symbols: list[str]) -> list[tuple[str, str]]:
    pairs = []
    for symbol in symbols:
        expiries = service.get(f"/api/v2/instruments/{symbol}/expiries")["expiries"]
        pairs.extend((symbol, expiry) for expiry in expiries[:3])
    return pairs


def test_phase5_prices_flow_to_the_frontend(service: Service) -> None:
    expiry = service.get("/api/v2/instruments/NIFTY/expiries")["expiries"][0]
    with connect(service.stream_url, proxy=None) as stream:
        stream.send(json.dumps({"op": "subscribe", "topics": [f"chain:NIFTY:{expiry}"]}))
        snapshot = json.loads(stream.recv(timeout=5))
        assert snapshot["type"] == "snapshot"
        assert len(snapshot["data"]["rows"]) == 202
        seq = snapshot["seq"]
        for _ in range(5):
            delta = json.loads(stream.recv(timeout=5))
            assert (delta["type"], delta["seq"]) == ("delta", seq + 1)
            seq = delta["seq"]
            assert delta["data"]


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
    here = set(re.findall(r"^def (test_\w+)", Path(__file__).read_text(), re.MULTILINE))
    assert here <= names, f"not mapped in docs/checklist.md: {sorted(here - names)}"
