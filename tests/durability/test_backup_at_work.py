"""``bt backup`` while two users add and remove, ``bt restore`` after more has happened: the state of that moment."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from tests.durability.kill_loop import DRIVERS, Trader, small_settings
from tests.durability.ledger import Ledger, Tables, read_tables, wrong_when_settled
from tests.service import Service

BACKUPS = 2
BACKUPS_AT_REST = 20
WORK_S = 0.3


def bt(service: Service, *arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments],
        env=service.environment(),
        cwd=service.directory,
        check=True,
        capture_output=True,
        timeout=60,
    )


def url_of(backup: Path) -> str:
    return f"sqlite+aiosqlite:///{backup}"


def holds_one_moment(service: Service, out: Path, ledgers: list[Ledger]) -> None:
    """Each user's list in the copy is one that he had between the copy's begin and its end."""
    first = [len(ledger.past) - 1 for ledger in ledgers]
    bt(service, "backup", str(out))
    time.sleep(0.1)  # an answer that was under way at its end
    tables = read_tables(url_of(out))
    for ledger, since in zip(ledgers, first, strict=True):
        assert frozenset(tables.wishes(ledger.user_id)) in ledger.past[since:], f"{out.name}: never so"
    assert len({leg.token for leg in tables.legs}) == len(tables.legs) > 0


def work(service: Service, ledgers: list[Ledger], seed: int) -> list[Trader]:
    traders = [Trader(service.url, ledger, f"{seed} {ledger.user_id}") for ledger in ledgers]
    for each in traders:
        each.start()
    time.sleep(WORK_S)
    return traders


def rest(traders: list[Trader]) -> None:
    for each in traders:
        each.is_at_work = False
    for each in traders:
        each.join()


def live(service: Service) -> None:
    service.wait_for("spots", 60, lambda: service.status()["states"].get("LIVE", 0) >= DRIVERS)


def backed_up_at_rest(service: Service, url: str, directory: Path) -> tuple[Path, Tables]:
    """A backup and what the store held while it was made.

    Nobody works any more, but lists that were evicted come back on their own once there is room: tried until nothing
    has moved.
    """
    for number in range(BACKUPS_AT_REST):
        kept = directory / f"kept{number}"
        before = read_tables(url)
        bt(service, "backup", str(kept))
        if read_tables(url) == before and not list(wrong_when_settled(before)):
            return kept, before
    raise AssertionError(f"the store never rested over {BACKUPS_AT_REST} backups")


def agrees(service: Service, url: str) -> bool:
    tables = read_tables(url)
    return not list(wrong_when_settled(tables)) and service.status()["total_subscriptions"] == len(tables.legs)


def backed_up_and_restored(directory: Path, url: str) -> None:
    service = Service(
        directory / "service",
        {**small_settings(directory), "BT_DATABASE_URL": url, "BT_LINGER_S": "0"},
        ("-m", "tests.durability.small_service"),
    )
    ledgers = [Ledger(1), Ledger(2)]
    with service:
        live(service)
        traders = work(service, ledgers, 1)
        for number in range(BACKUPS):
            holds_one_moment(service, directory / f"b{number}", ledgers)
        rest(traders)
        held = [set(ledger.held) for ledger in ledgers]
        kept, before = backed_up_at_rest(service, url, directory)
        assert [set(read_tables(url_of(kept)).wishes(user_id)) for user_id in (1, 2)] == held
        rest(work(service, ledgers, 2))
        assert [set(ledger.held) for ledger in ledgers] != held
    bt(service, "restore", str(kept), "--overwrite")
    after = read_tables(url)
    assert (after.entries, after.lines, after.marks) == (before.entries, before.lines, before.marks)
    assert {leg.token for leg in after.legs} == {leg.token for leg in before.legs}
    with service:
        live(service)
        for user_id, wishes in zip((1, 2), held, strict=True):
            shown = service.get(f"/api/v2/watchlist/{user_id}")["watchlist"]
            assert {(each["symbol"], each["expiry_date"] or "", each["instrument_type"]) for each in shown} == wishes
        service.wait_for("books and rows agree", 15, lambda: agrees(service, url))


def test_a_backup_at_work_is_restored_to_its_moment_on_sqlite(tmp_path: Path, sqlite_url: str) -> None:
    backed_up_and_restored(tmp_path, sqlite_url)


def test_a_backup_at_work_is_restored_to_its_moment_on_postgresql(tmp_path: Path, postgres_url: str) -> None:
    backed_up_and_restored(tmp_path, postgres_url)
