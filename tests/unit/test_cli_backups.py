"""Backups and restores of the command line, on real files."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from app.cli import database
from app.cli.failure import CommandFailed


def sqlite_url(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


def counted(path: Path) -> int:
    opened = sqlite3.connect(path)
    try:
        return int(opened.execute("SELECT count(*) FROM users").fetchone()[0])
    finally:
        opened.close()


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A database with one user."""
    path = tmp_path / "app.db"
    database.migrate(sqlite_url(path))
    opened = sqlite3.connect(path)
    opened.execute(
        "INSERT INTO users (name, role, password_hash, token_version, created_at)"
        " VALUES ('asha', 'user', '', 0, '2026-02-03 00:00:00')"
    )
    opened.commit()
    opened.close()
    return path


def test_a_backup_of_a_database_in_use_comes_back(kept: Path, tmp_path: Path) -> None:
    held = sqlite3.connect(kept)
    held.execute("BEGIN")
    held.execute("SELECT * FROM users").fetchall()
    report = database.backup(sqlite_url(kept), tmp_path / "b" / "one.db")
    held.close()
    assert report.rows["users"] == 1
    assert (tmp_path / "b" / "one.db").stat().st_mode & 0o077 == 0
    fresh = tmp_path / "fresh.db"
    database.restore(sqlite_url(fresh), tmp_path / "b" / "one.db", overwrite=False)
    assert counted(fresh) == 1


def test_a_restore_overwrites_only_when_told(kept: Path, tmp_path: Path) -> None:
    copy = tmp_path / "one.db"
    database.backup(sqlite_url(kept), copy)
    with pytest.raises(CommandFailed, match="--overwrite"):
        database.restore(sqlite_url(kept), copy, overwrite=False)
    opened = sqlite3.connect(kept)
    opened.execute("DELETE FROM users")
    opened.commit()
    opened.close()
    database.restore(sqlite_url(kept), copy, overwrite=True)
    assert counted(kept) == 1


def test_a_database_copied_with_its_wal_comes_back_whole(kept: Path, tmp_path: Path) -> None:
    held = sqlite3.connect(kept)
    held.execute("UPDATE users SET name = 'ravi'")
    held.commit()
    (tmp_path / "by-hand").mkdir()
    for each in tmp_path.glob("app.db*"):
        shutil.copy(each, tmp_path / "by-hand")
    held.close()
    database.restore(sqlite_url(tmp_path / "fresh.db"), tmp_path / "by-hand" / "app.db", overwrite=False)
    with closing(sqlite3.connect(tmp_path / "fresh.db")) as fresh:
        assert fresh.execute("SELECT name FROM users").fetchall() == [("ravi",)]


def test_a_restore_under_a_running_service_is_refused(kept: Path, tmp_path: Path) -> None:
    copy = tmp_path / "one.db"
    database.backup(sqlite_url(kept), copy)
    held = sqlite3.connect(kept, isolation_level=None)
    held.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(CommandFailed, match="in use"):
            database.restore(sqlite_url(kept), copy, overwrite=True)
    finally:
        held.close()
    assert counted(kept) == 1


@pytest.mark.parametrize("start", [0, 5_000], ids=["head", "pages"])
def test_a_restore_over_a_damaged_database_names_the_way_out(kept: Path, tmp_path: Path, start: int) -> None:
    copy = tmp_path / "one.db"
    database.backup(sqlite_url(kept), copy)
    with kept.open("r+b") as file:
        file.seek(start)
        file.write(b"\xff" * 20_000)
    with pytest.raises(CommandFailed, match="move it away"):
        database.restore(sqlite_url(kept), copy, overwrite=True)
    kept.rename(tmp_path / "damaged.db")
    database.restore(sqlite_url(kept), copy, overwrite=False)
    assert counted(kept) == 1


@pytest.mark.parametrize("content", [b"", b"garbage"])
def test_what_is_no_backup_is_refused(kept: Path, tmp_path: Path, content: bytes) -> None:
    bad = tmp_path / "bad.db"
    bad.write_bytes(content)
    with pytest.raises(CommandFailed):
        database.restore(sqlite_url(kept), bad, overwrite=True)
    assert counted(kept) == 1


def test_a_database_needs_a_known_url(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="driver"):
        database.migrate("mysql://x/y")
    with pytest.raises(CommandFailed, match="--overwrite"):
        database.restore("postgresql+asyncpg://u:p@127.0.0.1/bt", tmp_path / "x", overwrite=False)


@pytest.mark.parametrize("target", ["a-file/backup.db", "a-folder"])
def test_a_backup_that_cannot_be_written_is_one_line(tmp_path: Path, target: str) -> None:
    (tmp_path / "a-file").write_text("")
    (tmp_path / "a-folder").mkdir()
    with pytest.raises(CommandFailed, match=target):
        database.backup(f"sqlite+aiosqlite:///{tmp_path}/app.db", tmp_path / target)


@pytest.mark.parametrize("target", ["app.db", "app.db-wal", "link.db"])
def test_a_backup_never_takes_the_place_of_the_database(kept: Path, tmp_path: Path, target: str) -> None:
    (tmp_path / "link.db").symlink_to(kept)
    before = kept.stat().st_ino
    with pytest.raises(CommandFailed, match="is the database itself"):
        database.backup(sqlite_url(kept), tmp_path / target)
    assert kept.stat().st_ino == before
    assert not (tmp_path / "app.db-wal").exists()


@pytest.mark.parametrize(("revision", "told"), [(None, "nothing of this program"), ("9999", "use a newer one")])
def test_a_database_that_cannot_be_backed_up_is_one_line(
    kept: Path, tmp_path: Path, revision: str | None, told: str
) -> None:
    opened = sqlite3.connect(kept)
    opened.execute(
        "DROP TABLE alembic_version" if revision is None else f"UPDATE alembic_version SET version_num = {revision}"
    )
    opened.commit()
    opened.close()
    with pytest.raises(CommandFailed, match=told):
        database.backup(sqlite_url(kept), tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()
