"""A disk that is full, a database that is locked or away: a clear refusal, prices go on, recovery without restart."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx

from app.storage.engine import WRITER_LOCK
from tests.contract.conftest import administer
from tests.contract.servers import Postgres
from tests.durability.kill_loop import DRIVERS, small_settings
from tests.durability.ledger import read_tables
from tests.service import Service

Trouble = Callable[[Service], AbstractContextManager[None]]


@contextmanager
def full_disk(service: Service) -> Iterator[None]:
    """The kernel lets no file of the service grow: neither database nor log nor caches."""
    assert service.process is not None
    kept = resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (1, kept[1]))
    yield
    resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, kept)


@contextmanager
def locked_file(service: Service) -> Iterator[None]:
    """Another program is writing and does not finish."""
    with closing(sqlite3.connect(service.directory / "app.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@dataclass(frozen=True, slots=True)
class Cluster:
    """PostgreSQL that is held, filled or stopped while the service runs."""

    server: Postgres

    @contextmanager
    def locked(self, _: Service) -> Iterator[None]:
        """Another session holds the lock of whoever writes."""
        with asyncio.Runner() as loop:
            other = loop.run(asyncpg.connect(self.server.url("postgres").replace("+asyncpg", "")))
            loop.run(other.execute(f"SELECT pg_advisory_lock({WRITER_LOCK})"))
            try:
                yield
            finally:
                loop.run(other.close())

    @contextmanager
    def full(self, _: Service) -> Iterator[None]:
        """The server says to every insert what it says of a full disk (SQLSTATE 53100)."""
        body = "BEGIN RAISE EXCEPTION USING ERRCODE = '53100', MESSAGE = 'could not extend file'; END"
        administer(self.server, f"CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$")
        for table in ("watchlist", "alembic_version"):
            administer(self.server, f"CREATE TRIGGER full_disk BEFORE INSERT ON {table} EXECUTE FUNCTION full_disk()")
        yield
        administer(self.server, "DROP FUNCTION full_disk CASCADE")

    @contextmanager
    def away(self, _: Service) -> Iterator[None]:
        """The server is shut down, and started again."""
        self.server.stop()
        yield
        self.server.start()


@contextmanager
def started(directory: Path, url: str) -> Iterator[Service]:
    settings = {**small_settings(directory), "BT_DATABASE_URL": url}
    with Service(directory, settings, ("-m", "tests.durability.small_service")) as service:
        service.wait_for("spots", 60, lambda: service.status()["states"].get("LIVE", 0) >= DRIVERS)
        yield service


def add(service: Service, user_id: int, symbol: str) -> httpx.Response:
    body = {"user_id": user_id, "symbol": symbol, "instrument_type": "STOCK_OPTION", "expiry": "24FEB2026"}
    return service.post("/api/v2/watchlist/add", body)


def listed(service: Service, user_id: int) -> set[str]:
    return {each["symbol"] for each in service.get(f"/api/v2/watchlist/{user_id}")["watchlist"]}


def metric(service: Service, name: str) -> float:
    lines = service.http.get(f"{service.url}/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


def is_healthy(service: Service) -> bool:
    return bool(service.get("/health")["status"] == "healthy")


def refused_then_served(service: Service, user_id: int, trouble: Trouble, reason: str) -> None:
    """While the trouble lasts, a write is refused whole and the reason told; afterwards the same process serves."""
    assert add(service, user_id, "TCS").status_code == 200
    service.wait_for("health", 20, lambda: is_healthy(service))
    before = service.status()["tier_a_count"]
    with trouble(service):
        began = time.monotonic()
        refused = add(service, user_id, "INFY")
        noticed_s = time.monotonic() - began
        assert (refused.status_code, refused.json().get("code")) == (503, "STORE_UNAVAILABLE")
        assert reason in refused.json()["detail"]
        assert "Retry-After" in refused.headers
        assert listed(service, user_id) == {"TCS"}
        assert service.status()["tier_a_count"] == before
        reasons = service.get("/health")["reasons"]
        assert any(reason in each for each in reasons), reasons
        assert metric(service, "bt_store_up") == 0
        count = metric(service, "bt_feed_packets_total")
        service.wait_for("prices", 10, lambda: metric(service, "bt_feed_packets_total") > count)
    began = time.monotonic()
    service.wait_for("recovery", 20, lambda: is_healthy(service))
    print(f"{trouble.__name__}: refused in {noticed_s:.2f} s, well {time.monotonic() - began:.2f} s after its end")
    assert add(service, user_id, "INFY").status_code == 200


def served_on_and_lost_nothing(directory: Path, url: str, troubles: Sequence[tuple[Trouble, str]]) -> None:
    with started(directory, url) as service:
        assert service.process is not None
        pid = service.process.pid
        for user_id, (trouble, reason) in enumerate(troubles, 1):
            refused_then_served(service, user_id, trouble, reason)
            assert service.process.pid == pid
    tables = read_tables(url)
    for user_id in range(1, len(troubles) + 1):
        assert {symbol for symbol, *_ in tables.wishes(user_id)} == {"TCS", "INFY"}


def test_a_full_disk_and_a_locked_file_are_told_and_survived(tmp_path: Path) -> None:
    directory = tmp_path / "service"
    url = f"sqlite+aiosqlite:///{directory / 'app.db'}"
    served_on_and_lost_nothing(directory, url, [(full_disk, "the disk failed"), (locked_file, "locked")])


def test_a_locked_full_or_absent_server_is_told_and_survived(tmp_path: Path, own_postgres: Postgres) -> None:
    cluster = Cluster(own_postgres)
    troubles = [(cluster.locked, "locked"), (cluster.full, "disk is full"), (cluster.away, "cannot be reached")]
    served_on_and_lost_nothing(tmp_path / "service", own_postgres.url("postgres"), troubles)
