"""``bt doctor``: is everything as it should be; ``--preopen`` gives a verdict for the morning."""

from __future__ import annotations

import shutil
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt
from rich.console import Console
from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError

from app.cli.failure import CommandFailed
from app.cli.remote import Remote, refusal
from app.core.ids import Exchange
from app.core.sessions import Calendar
from app.settings import Settings
from app.storage.engine import database_url
from app.storage.migrate import HEAD, revision_of

CONNECT_TIMEOUT_S = 5.0
CLOCK_OFF_MAX_S = 2.0
DISK_FREE_MIN_BYTES = 1 << 30
COVERAGE_MIN = 0.5  # of what was sent: about half of all strikes never trade in a day
TOKEN_LEFT_MIN = timedelta(hours=8)


class Level(StrEnum):
    OK = "ok"
    NOTE = "note"  # not checked, or worth knowing
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    subject: str
    level: Level
    text: str


Check = Callable[[], Iterator[Finding]]
_COLOURS = {Level.OK: "green", Level.NOTE: "cyan", Level.WARN: "yellow", Level.FAIL: "red"}


@dataclass(frozen=True, slots=True)
class Doctor:
    """Looks at one installation. Every check stands alone and none changes anything."""

    settings: Settings
    calendar: Calendar
    now: datetime
    remote: Remote

    def examine(self, *, preopen: bool) -> Iterator[Finding]:
        checks: list[Check] = [self.disk, self.database, self.feed, self.clock, self.service]
        if preopen:
            checks.append(self.preopen)
        yield Finding("settings", Level.OK, f"feed {self.settings.feed_source}, authentication {self.settings.bt_auth}")
        for hint in self.settings.unknown_names:
            yield Finding("settings", Level.WARN, hint)
        for check in checks:
            yield from check()

    def disk(self) -> Iterator[Finding]:
        folder = self.settings.bt_data_dir
        there = next(path for path in (folder, *folder.resolve().parents) if path.exists())
        free = shutil.disk_usage(there).free
        level = Level.OK if free >= DISK_FREE_MIN_BYTES else Level.WARN
        yield Finding("disk", level, f"{free / 1e9:.1f} GB free in {folder}")

    def database(self) -> Iterator[Finding]:
        url = database_url(self.settings.bt_database_url)
        if not url.drivername.startswith("sqlite"):
            yield self._reach("database", str(url.host), url.port or 5432)
            return
        path = Path(str(url.database))
        if not path.exists():
            yield Finding("database", Level.NOTE, f"{path} is not there yet; the first start makes it")
            return
        yield _schema_of(path)

    def feed(self) -> Iterator[Finding]:
        if self.settings.feed_source != "dhan":
            yield Finding("feed", Level.NOTE, f"the {self.settings.feed_source} feed is used, not the broker")
            return
        parts = urlsplit(self.settings.dhan_feed_url)
        yield self._reach("feed", str(parts.hostname), parts.port or 443, tls=parts.scheme == "wss")
        token = self.settings.dhan_access_token
        if token is not None and self.settings.dhan_pin is None:
            yield _token_life(token.get_secret_value(), self.now)

    def clock(self) -> Iterator[Finding]:
        """Against the broker's own clock: a machine that is minutes off shows every age wrong."""
        if self.settings.feed_source != "dhan":
            yield Finding(
                "clock", Level.NOTE, f"{self.now:%Y-%m-%d %H:%M:%S %Z}; compared with the broker's only when live"
            )
            return
        try:
            told = httpx.head(self.settings.dhan_api_url, timeout=CONNECT_TIMEOUT_S).headers["date"]
            off_s = abs((parsedate_to_datetime(told) - datetime.now(UTC)).total_seconds())
        except (httpx.HTTPError, KeyError, ValueError) as error:
            yield Finding("clock", Level.WARN, f"not compared: {type(error).__name__}")
            return
        level = Level.OK if off_s <= CLOCK_OFF_MAX_S else Level.FAIL
        yield Finding("clock", level, f"{off_s:.0f} s from the broker's clock")

    def service(self) -> Iterator[Finding]:
        try:
            ready, _ = self.remote.ask("/ready")
            _, health = self.remote.ask("/health")
        except CommandFailed as error:
            yield Finding("service", Level.NOTE, error.line)
            return
        level = Level.OK if ready == 200 else Level.FAIL
        yield Finding("service", level, "ready" if ready == 200 else "running but not ready")
        for reason in health.get("reasons", ()):
            yield Finding("service", Level.WARN, reason)
        yield from self._master()
        if health.get("subscriptions") is not None:  # a gateway knows none while the feed's process is away
            yield from self._coverage(health["subscriptions"])

    def _master(self) -> Iterator[Finding]:
        status, report = self.remote.ask("/api/v2/admin/registry")
        if status in (401, 403):
            yield Finding("master", Level.NOTE, "needs an admin's token to look at: --token")
            return
        if status != 200:
            yield Finding("master", Level.WARN, f"not looked at: {refusal(report)}")
            return
        refused = report.get("last_refused")
        rows = sum(report.get("rows_by_segment", {}).values())
        yield Finding("master", Level.OK, f"{rows:,} instruments of {report.get('date')} from {report.get('source')}")
        if refused:
            yield Finding("master", Level.WARN, f"a newer file was refused: {refused}")

    def _coverage(self, subscriptions: dict[str, Any]) -> Iterator[Finding]:
        states = subscriptions.get("states", {})
        sent = sum(count for state, count in states.items() if state not in ("WANTED", "NOT_SUBSCRIBED"))
        fresh = states.get("LIVE", 0) + states.get("QUIET", 0)
        told = ", ".join(f"{state} {count:,}" for state, count in states.items() if count) or "nothing subscribed"
        in_session = not states.get("CLOSED") and sent
        level = Level.WARN if in_session and fresh < COVERAGE_MIN * sent else Level.OK
        yield Finding("coverage", level, told)

    def preopen(self) -> Iterator[Finding]:
        """What must hold at nine in the morning, beyond what the other checks find."""
        today = self.now.date()
        trades = [exchange.value for exchange in Exchange if self.calendar.is_trading_day(exchange, today)]
        level = Level.OK if trades else Level.NOTE
        yield Finding("pre-open", level, f"{today:%d %b}: {', '.join(trades) or 'no exchange'} trades")
        try:
            yield from self._preopen_service(today.isoformat())
        except CommandFailed as error:
            yield Finding("pre-open", Level.FAIL, error.line)

    def _preopen_service(self, today: str) -> Iterator[Finding]:
        status = self.remote.get("/api/v2/admin/ws-status")
        up, total = status["connected_connections"], status["total_connections"]
        yield Finding("pre-open", Level.OK if up == total else Level.FAIL, f"{up} of {total} feed connections are up")
        report = self.remote.get("/api/v2/admin/registry")
        is_fresh = report.get("date") == today
        yield Finding("pre-open", Level.OK if is_fresh else Level.WARN, f"instrument master of {report.get('date')}")
        tier_b = self.remote.get("/api/v2/admin/tier-b")
        missing = tier_b.get("missing", [])
        listed = f"Tier B: {tier_b.get('listed')} of {tier_b.get('asked')} listed"
        yield Finding("pre-open", Level.WARN if missing else Level.OK, listed)

    def _reach(self, subject: str, host: str, port: int, *, tls: bool = False) -> Finding:
        try:
            with closing(socket.create_connection((host, port), CONNECT_TIMEOUT_S)) as raw:
                if tls:
                    ssl.create_default_context().wrap_socket(raw, server_hostname=host).close()
        except OSError as error:
            return Finding(subject, Level.FAIL, f"{host}:{port} cannot be reached: {error}")
        return Finding(subject, Level.OK, f"{host}:{port} answers")


def _schema_of(path: Path) -> Finding:
    engine = create_engine(f"sqlite:///file:{path}?mode=ro&uri=true")
    try:
        with engine.connect() as connection:
            found = revision_of(connection)
    except SQLAlchemyError as error:
        return Finding("database", Level.FAIL, f"{path}: {error}")
    finally:
        engine.dispose()
    if found == HEAD:
        return Finding("database", Level.OK, f"{path}, schema {found}")
    return Finding("database", Level.WARN, f"{path} has schema {found}, this program has {HEAD}: run bt migrate")


def _token_life(token: str, now: datetime) -> Finding:
    """When the broker's token ends; it is a JWT whose end anybody may read."""
    try:
        ends = jwt.decode(token, options={"verify_signature": False})["exp"]
    except (jwt.InvalidTokenError, KeyError):
        return Finding("feed", Level.NOTE, "the access token does not say when it ends")
    left = datetime.fromtimestamp(ends, UTC) - now
    if left <= timedelta(0):
        return Finding("feed", Level.FAIL, "the access token has expired; set a new DHAN_ACCESS_TOKEN")
    level = Level.OK if left >= TOKEN_LEFT_MIN else Level.WARN
    return Finding("feed", level, f"the access token lives for {left.total_seconds() / 3600:.1f} h more")


def report(findings: Iterator[Finding], console: Console, *, preopen: bool) -> bool:
    """Print findings as they come; True when nothing failed."""
    worst_is_fine = True
    for finding in findings:
        worst_is_fine &= finding.level is not Level.FAIL
        console.print(
            f"[{_COLOURS[finding.level]}]{finding.level.value:>4}[/]  {finding.subject:<9} {finding.text}",
            soft_wrap=True,
        )
    if preopen:
        console.print("[green]GO[/]" if worst_is_fine else "[red]NO-GO[/]")
    return worst_is_fine
