"""Backups: taken while the service writes, verified, put back into either database."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from app.core.errors import AlreadyExists, StoreUnavailable
from app.ports.access import AccessFilter
from app.ports.store import AuditFilter, AuditRow, Changes, ListRow, Role, StoredState, UserRow
from app.storage import backup as backup_module
from app.storage.backup import BackupRefused, backup, restore, verify
from app.storage.migrate import HEAD
from app.storage.sql_store import SqlStore
from tests.contract.fakes import NOON, SetClock, atm, entry, leg, line
from tests.contract.test_access_contract import line_of, session_of

DATABASES = ("sqlite", "postgres")


@dataclass(frozen=True, slots=True)
class Everything:
    state: StoredState
    log: list[AuditRow]
    users: list[UserRow]


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[SqlStore]:
    store = SqlStore(url, SetClock())
    await store.start()
    try:
        yield store
    finally:
        await store.stop()


async def everything(url: str) -> Everything:
    async with opened(url) as store:
        return Everything(await store.load(), await store.audit(AuditFilter(limit=10**6)), await store.users())


async def fill(url: str) -> None:
    """Some of everything, with gaps in the ids and the last ids given away again."""
    async with opened(url) as store:
        first, *_, last = await store.commit(
            Changes(
                entries_added=[entry(), entry("TCS", expiry=None, centre=None), entry("INFY"), entry("WIPRO")],
                legs=[leg(float(n)) for n in range(50)],
                atm=[atm()],
                audit=[line(timestamp=NOON - timedelta(days=1)) for _ in range(30)],
                lists=[ListRow(1, "swing ₹", 2)],
            )
        )
        await store.commit(Changes(once="EOD:1", entries_removed=[first, last], audit=[line(f"₹ {n}") for n in "ab"]))
        await store.prune_audit(NOON)
        await store.ensure_user(7)
        await store.add_user("asha", Role.ADMIN, "$argon2id$")


@pytest.fixture(params=DATABASES)
def source(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url")
    return url


@pytest.fixture(params=DATABASES)
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'target.db'}"
    url: str = request.getfixturevalue("empty_postgres_url")
    return url


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "kept" / "bt.backup"


@pytest.fixture(autouse=True)
def place(out: Path) -> None:
    out.parent.mkdir()


def mode_and_neighbours(file: Path) -> tuple[int, list[str]]:
    return stat.S_IMODE(file.stat().st_mode), sorted(path.name for path in file.parent.iterdir())


async def test_a_backup_holds_everything_and_goes_back_into_any_database(source: str, target: str, out: Path) -> None:
    await fill(source)
    before = await everything(source)
    report = await backup(source, out)
    assert report.revision == HEAD
    assert {name: count for name, count in report.rows.items() if count} == {
        "watchlist": 2,
        "watchlists": 1,
        "subscriptions": 50,
        "atm_cache": 1,
        "subscription_log": 2,
        "users": 2,
    }
    assert verify(out) == report
    assert mode_and_neighbours(out) == (0o600, ["bt.backup"])
    assert await restore(target, out) == report
    assert await everything(target) == before
    assert await everything(source) == before


async def test_a_session_does_not_come_back_with_a_restore(source: str, target: str, out: Path) -> None:
    async with opened(source) as store:
        user = await store.add_user("asha", Role.ADMIN, "h")
        await store.open_session(session_of(user), line_of(user), keep=5)
    await backup(source, out)
    await restore(target, out)
    async with opened(target) as store:
        assert await store.session("first") is None
        assert [row.name for row in await store.access_log(AccessFilter())] == ["asha"]


async def test_ids_and_marks_stay_used_after_a_restore(source: str, target: str, out: Path) -> None:
    await fill(source)
    async with opened(source) as store:
        newest_line = max(row.id for row in await store.audit(AuditFilter()))
    await backup(source, out)
    await restore(target, out)
    async with opened(target) as store:
        (added,) = await store.commit(Changes(entries_added=[entry("NEW")], audit=[line()], legs=[leg(99.0)]))
        assert added == 5, "ids 1 and 4 were given away before the backup"
        assert (await store.audit(AuditFilter(limit=1)))[0].id > newest_line
        assert (await store.add_user("ravi", Role.USER, "h")).id == 9
        with pytest.raises(AlreadyExists):
            await store.commit(Changes(once="EOD:1", audit=[line()]))


async def test_a_restore_replaces_what_is_there_and_gives_no_id_again(source: str, out: Path) -> None:
    await fill(source)
    before = await everything(source)
    await backup(source, out)
    async with opened(source) as store:
        later = await store.commit(Changes(entries_added=[entry("LATER")], legs=[leg(77.5)], once="EOD:2"))
        await store.add_user("ravi", Role.USER, "h")
    await restore(source, out)
    assert await everything(source) == before
    async with opened(source) as store:
        assert not await store.was_done("EOD:2")
        assert await store.commit(Changes(entries_added=[entry("LATER")])) > later


async def test_a_backup_under_writes_is_one_moment(source: str, out: Path) -> None:
    async with opened(source) as store:
        stop = asyncio.Event()

        async def write() -> int:
            number = 0
            while not stop.is_set():
                symbol = f"S{number}"
                await store.commit(
                    Changes(entries_added=[entry(symbol)], legs=[leg(token=f"{symbol}_{n}") for n in range(10)])
                )
                number += 1
            return number

        writing = asyncio.ensure_future(write())
        counts = []
        for number in range(4):
            report = await backup(source, out.with_name(f"b{number}"))
            assert report.rows["subscriptions"] == 10 * report.rows["watchlist"]
            counts.append(report.rows["watchlist"])
        stop.set()
        written = await writing
    assert counts == sorted(counts)
    assert 0 < counts[-1] <= written


async def test_many_rows_are_carried_in_portions(
    source: str, target: str, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup_module, "ROWS_AT_ONCE", 100)
    async with opened(source) as store:
        await store.commit(Changes(audit=[line(f"T{n}") for n in range(1_234)]))
    before = await everything(source)
    await backup(source, out)
    await restore(target, out)
    assert await everything(target) == before


async def test_an_older_backup_replaces_a_newer_one_only_when_whole(source: str, out: Path) -> None:
    out.write_bytes(b"the backup of yesterday")  # noqa: ASYNC240 - a few bytes
    with pytest.raises(StoreUnavailable):
        await backup("sqlite+aiosqlite:////nowhere/at/all.db", out)
    assert out.read_bytes() == b"the backup of yesterday"  # noqa: ASYNC240
    await fill(source)
    await backup(source, out)
    assert verify(out).rows["users"] == 2


async def test_a_place_that_cannot_be_written_is_said(source: str, tmp_path: Path) -> None:
    await fill(source)
    with pytest.raises(StoreUnavailable, match="place cannot be written: No such file"):
        await backup(source, tmp_path / "no" / "such" / "place")


def test_a_missing_database_is_not_made_by_backing_it_up(tmp_path: Path, out: Path) -> None:
    with pytest.raises(StoreUnavailable, match="there is no database"):
        asyncio.run(backup(f"sqlite+aiosqlite:///{tmp_path}/none.db", out))
    assert not out.exists()
    assert not (tmp_path / "none.db").exists()


def damage(file: Path, how: str) -> None:
    if how == "cut":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif how == "flipped":
        content = bytearray(file.read_bytes())
        for position in range(4096, len(content), 512):
            content[position] ^= 0xFF
        file.write_bytes(content)
    elif how == "one letter":  # of a token, in the row or in the index: only a full check sees that they differ
        token = b"RELIANCE_26FEB2026_7.0CE"
        content = file.read_bytes()
        assert content.count(token) == 2
        file.write_bytes(content.replace(token, token.lower(), 1))
    elif how == "letter":
        file.write_bytes(b"Dear Sir" * 1000)
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "missing":
        file.unlink()
    else:
        statements = {
            "foreign": "DROP TABLE alembic_version",
            "unversioned": "DELETE FROM alembic_version",
            "newer": "UPDATE alembic_version SET version_num = '9999'",
            "headless": "DROP TABLE users",
        }
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute(statements[how])


@pytest.mark.parametrize(
    "how", ["cut", "flipped", "one letter", "letter", "empty", "missing", "foreign", "unversioned", "newer", "headless"]
)
async def test_a_file_that_cannot_be_trusted_changes_nothing(source: str, out: Path, how: str) -> None:
    await fill(source)
    before = await everything(source)
    await backup(source, out)
    damage(out, how)
    with pytest.raises(BackupRefused):
        verify(out)
    with pytest.raises(BackupRefused):
        await restore(source, out)
    assert await everything(source) == before


async def test_a_restore_under_a_running_service_is_refused_on_postgresql(postgres_url: str, out: Path) -> None:
    await fill(postgres_url)
    await backup(postgres_url, out)
    async with opened(postgres_url) as store:
        made = await store.add_user("since", Role.USER, "h")
        with pytest.raises(BackupRefused, match="stop the service"):
            await restore(postgres_url, out)
        assert made in await store.users()
    await restore(postgres_url, out)
    assert made not in (await everything(postgres_url)).users


async def test_a_restore_that_fails_half_way_changes_nothing(
    source: str, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(source)
    await backup(source, out)
    async with opened(source) as store:
        await store.commit(Changes(entries_added=[entry("LATER")]))
    before = await everything(source)

    def broken(*_: object) -> None:
        raise RuntimeError("power cut")

    monkeypatch.setattr(backup_module, "set_last_id", broken)
    with pytest.raises(RuntimeError):
        await restore(source, out)
    assert await everything(source) == before
