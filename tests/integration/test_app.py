"""The application in this process: two services side by side, the doors, a second start of the same application."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_EXECUTED
from fastapi import FastAPI

from app.core import current
from app.core.errors import MasterRefused
from app.dhan.live_feed import run_feed
from app.lifecycle import hooks
from app.main import create_app
from app.market.registry import REGISTRY, InstrumentRegistry
from app.market.subscription_manager import get_subscription_manager
from app.market.tiers import UniverseInvalid
from app.market.watchlist_manager import WatchlistManager, get_watchlist_manager
from app.ports.feed import FeedLimits
from app.runtime.build import Given
from app.runtime.clock import ShiftedClock
from app.settings import Settings
from tests.masters import SMALL


def settings_in(directory: Path, **more: Any) -> Settings:
    told = {
        "bt_feed": "off",
        "bt_data_dir": directory / "data",
        "bt_database_url": f"sqlite+aiosqlite:///{directory / 'app.db'}",
        "bt_instrument_master": str(SMALL),
        "bt_sim_date": date(2026, 2, 3),
        **more,
    }
    directory.mkdir(parents=True, exist_ok=True)
    return Settings(_env_file=None, **told)  # type: ignore[call-arg]


@asynccontextmanager
async def started(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, client=("127.0.0.1", 50_000))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
            yield client
    gc.unfreeze()


async def test_two_services_in_one_process_are_kept_apart(tmp_path: Path) -> None:
    one, other = create_app(settings_in(tmp_path / "one")), create_app(settings_in(tmp_path / "other"))
    add = {"user_id": 1, "symbol": "RELIANCE", "instrument_type": "EQUITY"}
    async with started(one) as first:
        assert (await first.post("/api/v2/watchlist/add", json=add)).status_code == 200
        assert len(get_watchlist_manager().get_user_watchlist(1)) == 1
        async with started(other):
            assert get_watchlist_manager().get_user_watchlist(1) == [], "the doors open to the last started"
        assert len(get_watchlist_manager().get_user_watchlist(1)) == 1, "its stop gives them back"
    assert not current.is_running()


async def test_the_same_application_starts_again_and_remembers(tmp_path: Path) -> None:
    app = create_app(settings_in(tmp_path))
    add = {"user_id": 1, "symbol": "RELIANCE", "instrument_type": "EQUITY"}
    async with started(app) as client:
        assert (await client.get("/ready")).status_code == 200
        assert (await client.post("/api/v2/watchlist/add", json=add)).status_code == 200
    async with started(app) as client:
        assert (await client.get("/api/v2/watchlist/1")).json()["count"] == 1
        assert app.openapi()["info"]["version"]
        assert (await client.get("/health")).json()["status"] == "healthy"


async def test_doors_from_another_thread_use_the_running_service(tmp_path: Path) -> None:
    async with started(create_app(settings_in(tmp_path))) as client:
        manager = get_watchlist_manager()
        answer = await asyncio.to_thread(manager.add_to_watchlist, 1, "RELIANCE", None, "EQUITY")
        assert answer["success"] is True, answer
        assert (await client.get("/api/v2/watchlist/1")).json()["count"] == 1
        again = await asyncio.to_thread(manager.add_to_watchlist, 1, "RELIANCE", None, "EQUITY")
        assert (again["success"], again["code"]) == (False, "ALREADY_IN_WATCHLIST")
        assert REGISTRY.is_f_o_eligible("RELIANCE")
        ok, message, ws_id = get_subscription_manager().subscribe("RELIANCE_EQ", "RELIANCE", None, None, None, "TIER_A")
        assert ok, message
        assert ws_id in (None, 1, 2, 3, 4, 5)
        assert await asyncio.to_thread(run_feed) is None, "no feed to wait for"
        assert isinstance(REGISTRY, InstrumentRegistry)
        assert isinstance(manager, WatchlistManager)
        assert await asyncio.to_thread(hooks.eod_cleanup) >= 0
        assert manager.get_user_watchlist(1) == []
        assert {"end_of_day", "refresh_master"} <= {job.id for job in hooks.scheduler.get_jobs()}


async def test_an_always_on_universe_that_cannot_fit_stops_the_start(tmp_path: Path) -> None:
    app = create_app(settings_in(tmp_path), Given(limits=FeedLimits(1, 5, 5)))
    with pytest.raises(UniverseInvalid, match=r"BT_TIER_B asks for .* and 5 fit"):
        async with started(app):
            pass


async def test_an_always_on_universe_that_outgrows_the_feed_stays_that_of_the_day_before(tmp_path: Path) -> None:
    universe, master = tmp_path / "universe.toml", tmp_path / "master.csv"
    universe.write_text('[[future]]\nsymbol = "GOLD"\nexpiries = "all"\n[drivers]\nfo_stocks = false\n')
    rows = SMALL.read_text().splitlines(keepends=True)
    master.write_text("".join(row for row in rows if "GOLD APR FUT" not in row))
    settings = settings_in(tmp_path, bt_tier_b=str(universe), bt_instrument_master=str(master))
    async with started(create_app(settings, Given(limits=FeedLimits(1, 5, 5)))) as client:  # GOLD and four indices
        assert (await client.get("/health")).json()["reasons"] == []
        master.write_text("".join(rows))
        reasons = await _refreshed(client)
        assert reasons == [
            "the always-on universe of the day before stays: BT_TIER_B asks for 6 instruments, and 5 fit"
        ]
        active = (await client.get("/api/v2/subscriptions/active?symbol=GOLD")).json()["subscriptions"]
        assert [row["token"] for row in active] == ["GOLD_05FEB2026_FUT"]
        listed = await client.get("/api/v2/subscriptions/GOLD_03APR2026_FUT")
        assert listed.json()["details"]["state"] == "NOT_SUBSCRIBED", "the new master is in use"


async def test_a_morning_without_a_new_master_still_begins_a_new_day(tmp_path: Path) -> None:
    universe, master = tmp_path / "universe.toml", tmp_path / "master.csv"
    universe.write_text('[[chain]]\nsymbol = "NIFTY"\nnearest = 2\nstrikes = 5\n')
    master.write_bytes(SMALL.read_bytes())
    slept_s = 0.0
    clock = ShiftedClock(ZoneInfo("Asia/Kolkata"), date(2026, 2, 3), epoch_s=lambda: time.time() + slept_s)
    settings = settings_in(tmp_path, bt_tier_b=str(universe), bt_instrument_master=str(master))
    async with started(create_app(settings, Given(clock=clock))) as client:
        assert await _waiting(client) == ["NIFTY 03FEB2026", "NIFTY 24FEB2026"]
        slept_s = 86_400.0
        _lose_masters(tmp_path)
        reasons = await _refreshed(client)
        assert "instrument master not refreshed" in str(reasons)
        assert await _waiting(client) == ["NIFTY 24FEB2026", "NIFTY 30JUN2026"], "what is over has left"


async def test_a_night_with_a_locked_database_leaves_the_audit_and_the_service_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crashes: list[BaseException] = []
    monkeypatch.setattr("app.lifecycle.start.end_process", crashes.append)
    monkeypatch.setattr("app.storage.engine.LOCK_WAIT_S", 0.1)
    async with started(create_app(settings_in(tmp_path))) as client:
        ended = asyncio.Event()
        hooks.scheduler.add_listener(lambda event: ended.set(), EVENT_JOB_EXECUTED | EVENT_JOB_ERROR)
        with closing(sqlite3.connect(tmp_path / "app.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            hooks.scheduler.get_job("prune_audit").modify(next_run_time=datetime.now(UTC))
            await asyncio.wait_for(ended.wait(), 30)
        assert crashes == []
        assert (await client.get("/ready")).status_code == 200


async def _refreshed(client: httpx.AsyncClient) -> list[str]:
    """Have the morning's refresh run; returns what it gives health to complain of."""
    hooks.scheduler.get_job("refresh_master").modify(next_run_time=datetime.now(UTC))
    async with asyncio.timeout(30):
        while not (reasons := (await client.get("/health")).json()["reasons"]):  # noqa: ASYNC110 - told over HTTP
            await asyncio.sleep(0.05)
    return reasons  # type: ignore[no-any-return]


def _lose_masters(directory: Path) -> None:
    for each in (directory / "master.csv", *directory.rglob("*.snapshot")):
        each.unlink()


async def _waiting(client: httpx.AsyncClient) -> list[str]:
    return (await client.get("/api/v2/admin/tier-b")).json()["waiting"]  # type: ignore[no-any-return]


async def test_a_start_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    app = create_app(settings_in(tmp_path, bt_instrument_master=str(tmp_path / "nowhere.csv")))
    with pytest.raises(MasterRefused, match=r"BT_INSTRUMENT_MASTER was .*names no file"):
        async with started(app):
            pass
    assert not current.is_running()
    fixed = create_app(settings_in(tmp_path))
    async with started(fixed) as client:
        assert (await client.get("/ready")).status_code == 200
