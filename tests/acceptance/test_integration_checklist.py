"""The user's own checklist, line by line; each test is named after its line. ``docs/checklist.md`` maps them.

Commands run as the document writes them, on the day it was written (``BT_SIM_DATE=2026-02-03``).
"""

from __future__ import annotations

import datetime as dt
import importlib
import json
import re
import time
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.acceptance.steps import (
    IST,
    NewService,
    add,
    chain_rows,
    clear,
    columns,
    fo_stocks,
    next_minute,
    run_python,
    stock_chains,
    tables,
)
from tests.service import ROOT, Service

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
    assert (done.returncode, done.stdout) == (0, "clean\n"), done.stderr
    assert "[EOD] Cleanup complete" in done.stderr


def test_phase3_scheduler_has_the_end_of_day_planned(tmp_path: Path) -> None:
    code = """
import os
from app.lifecycle.hooks import scheduler
print(os.listdir())
print(sorted(job.id for job in scheduler.get_jobs()))
"""
    done = run_python(code, tmp_path)
    imported, planned = done.stdout.splitlines()
    assert imported == "[]", "importing made files"
    assert "'end_of_day'" in planned, done.stderr


def test_phase3_eod_cleanup_runs_at_its_minute_and_after_downtime(new_service: NewService) -> None:
    due = next_minute(20)
    running = new_service("running", BT_EOD_TIME=f"{due:%H:%M}")
    down = new_service("down", BT_EOD_TIME=f"{due:%H:%M}")
    for one in (running, down):
        one.launch()
    for one in (running, down):
        one.wait_ready()
        add(one, "RELIANCE", expiry="26FEB2026")  # its spot is known by the time that this is answered
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
