"""What several lines of the checklist do to a service."""

from __future__ import annotations

import contextlib
import datetime as dt
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from tests.service import Service

IST = ZoneInfo("Asia/Kolkata")
NewService = Callable[..., Service]


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


def next_minute(lead_s: float = 8.0) -> dt.datetime:
    return (dt.datetime.now(IST) + dt.timedelta(seconds=lead_s + 60)).replace(second=0, microsecond=0)


def fo_stocks(service: Service) -> list[str]:
    drivers = service.get("/api/v2/admin/tier-b")["drivers"]
    return [token.removesuffix("_EQ") for token in drivers if token.endswith("_EQ")]


def stock_chains(service: Service, symbols: list[str]) -> list[tuple[str, str]]:
    pairs = []
    for symbol in symbols:
        expiries = service.get(f"/api/v2/instruments/{symbol}/expiries")["expiries"]
        pairs.extend((symbol, expiry) for expiry in expiries[:3])
    return pairs
