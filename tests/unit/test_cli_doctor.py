"""The doctor's findings."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from rich.console import Console

from app.cli import database
from app.cli.doctor import Doctor, Finding, Level, report
from app.rest.gateway import AWAY
from app.runtime.places import calendar_of, clock_of
from app.settings import Settings
from tests.api.support import IST
from tests.unit.test_cli import Handler, remote_of


def doctor(settings: Settings, handler: Handler | None = None) -> Doctor:
    def unreachable(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    now = datetime(2026, 2, 3, 9, 0, tzinfo=IST)
    return Doctor(settings, calendar_of(settings), now, remote_of(handler or unreachable))


def found(findings: Iterator[Finding], subject: str) -> list[Finding]:
    return [finding for finding in findings if finding.subject == subject]


def healthy(request: httpx.Request) -> httpx.Response:
    answers: dict[str, Any] = {
        "/ready": {"status": "ready"},
        "/health": {"reasons": [], "subscriptions": {"states": {"LIVE": 90, "SENT": 10}}},
        "/api/v2/admin/registry": {"rows_by_segment": {"NSE_FNO": 5}, "date": "2026-02-03", "source": "generated"},
        "/api/v2/admin/ws-status": {"connected_connections": 5, "total_connections": 5},
        "/api/v2/admin/tier-b": {"asked": 9, "listed": 9, "missing": []},
    }
    return httpx.Response(200, json=answers[request.url.path])


def test_all_well_is_go(place: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    assert report(doctor(Settings(), healthy).examine(preopen=True), console, preopen=True)
    assert isinstance(console.file, io.StringIO)
    said = console.file.getvalue()
    assert said.rstrip().endswith("GO")
    assert "NO-GO" not in said


def test_no_service_before_the_open_is_no_go(place: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    assert not report(doctor(Settings()).examine(preopen=True), console, preopen=True)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().rstrip().endswith("NO-GO")


def test_no_service_otherwise_is_only_a_note(place: Path) -> None:
    levels = {finding.level for finding in doctor(Settings()).examine(preopen=False)}
    assert Level.FAIL not in levels


def test_a_gateway_without_its_feeds_process_is_no_go(place: Path) -> None:
    def gateway(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/health":
            return httpx.Response(200, json={"status": "degraded", "reasons": [AWAY], "subscriptions": None})
        return httpx.Response(503, json={"code": "FEED_AWAY", "detail": "it does not answer"})

    console = Console(file=io.StringIO(), width=200)
    assert not report(doctor(Settings(), gateway).examine(preopen=True), console, preopen=True)
    assert isinstance(console.file, io.StringIO)
    said = console.file.getvalue()
    assert AWAY in said
    assert "not looked at: FEED_AWAY" in said
    assert "needs an admin's token" not in said
    assert said.rstrip().endswith("NO-GO")


def test_a_holiday_is_said(place: Path) -> None:
    settings = Settings(bt_sim_hours="market")
    sunday = datetime(2026, 2, 8, 9, 0, tzinfo=IST)
    examined = Doctor(settings, calendar_of(settings), sunday, remote_of(healthy)).preopen()
    assert found(examined, "pre-open")[0].text.endswith("no exchange trades")


def test_low_coverage_is_a_warning(place: Path) -> None:
    def stale(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/health":
            return httpx.Response(200, json={"reasons": ["x"], "subscriptions": {"states": {"LIVE": 1, "STALE": 9}}})
        return healthy(request)

    findings = list(doctor(Settings(), stale).service())
    assert found(iter(findings), "coverage")[0].level is Level.WARN
    assert Finding("service", Level.WARN, "x") in findings


def test_the_database_is_looked_at_but_not_made(place: Path) -> None:
    settings = Settings()
    assert found(doctor(settings).database(), "database")[0].level is Level.NOTE
    assert not (place / "app.db").exists()
    database.migrate(settings.bt_database_url)
    assert found(doctor(settings).database(), "database")[0].level is Level.OK
    (place / "app.db").write_bytes(b"no database at all, but long enough to be read as one" * 40)
    assert found(doctor(settings).database(), "database")[0].level is Level.FAIL


@pytest.mark.parametrize(
    ("left", "level"), [(timedelta(hours=20), Level.OK), (timedelta(hours=2), Level.WARN), (timedelta(0), Level.FAIL)]
)
def test_the_brokers_token_has_an_end(place: Path, left: timedelta, level: Level) -> None:
    now = datetime(2026, 2, 3, 9, 0, tzinfo=IST)
    token = jwt.encode({"exp": int((now + left).timestamp())}, bytes(32))
    settings = Settings(bt_feed="dhan", dhan_client_id="1", dhan_access_token=token, dhan_feed_url="ws://127.0.0.1:9")
    findings = list(doctor(settings).feed())
    assert findings[0].level is Level.FAIL  # nothing listens on that port
    assert findings[1].level is level
    assert token not in findings[1].text


def test_the_clock_follows_the_simulated_day(place: Path) -> None:
    assert clock_of(Settings(bt_sim_date=date(2026, 2, 3))).now().date() == date(2026, 2, 3)
