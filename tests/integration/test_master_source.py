"""From a file to the snapshot in use: built in a child, refused with a reason, and yesterday's kept."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from app.core.errors import MasterRefused
from app.market.instrument_master.registry import InstrumentRegistry
from app.runtime.masters import MasterPlan, MasterSource
from tests.masters import SMALL, SMALL_DAY


async def no_download(given: str | None, directory: Path) -> Path:
    raise AssertionError(f"nothing to download, yet {given} was asked for")


def source_of(folder: Path, given: Path) -> MasterSource:
    return MasterSource(MasterPlan(folder / "master", str(given), True, 1), no_download)


async def test_a_file_becomes_a_snapshot_once(tmp_path: Path) -> None:
    source = source_of(tmp_path, SMALL)
    first = await source.snapshot(SMALL_DAY)
    made_at = first.stat().st_ino
    registry = InstrumentRegistry(lambda: SMALL_DAY)
    assert registry.load(first).in_use > 50
    assert (await source.snapshot(SMALL_DAY)).stat().st_ino == made_at, "built again for the same file"


async def test_a_bad_file_is_refused_and_yesterdays_stays_in_use(tmp_path: Path) -> None:
    given = tmp_path / "master.csv"
    shutil.copy(SMALL, given)
    source = source_of(tmp_path, given)
    good = await source.snapshot(SMALL_DAY)
    given.write_text("EXCH_ID,SEGMENT\nNSE,E\n")
    os.utime(given, (1, 1))
    assert await source.snapshot(SMALL_DAY) == good
    assert source.last_refused is not None
    assert "SECURITY_ID" in source.last_refused
    shutil.copy(SMALL, given)
    await source.snapshot(SMALL_DAY)
    assert source.last_refused is None, "a good file takes the warning away"


async def test_what_nobody_used_for_days_leaves_the_disk(tmp_path: Path) -> None:
    given, folder = tmp_path / "generated-2026-02-03-1.csv", tmp_path / "master"
    shutil.copy(SMALL, given)
    source = source_of(tmp_path, given)
    first = await source.snapshot(SMALL_DAY)
    generated, other = folder / "generated-2026-02-02-1.csv", folder / "notes.csv"
    for each in (generated, other):
        each.write_text("")
    given.write_bytes(SMALL.read_bytes() + b"\n")
    second = await source.snapshot(SMALL_DAY)
    assert {*folder.iterdir()} == {first, second, generated, other}, "yesterday's may be needed"
    for each in (first, generated, other, given):
        os.utime(each, (1, 1))
    third = await source.snapshot(SMALL_DAY)
    assert {*folder.iterdir()} == {second, third, other}


async def test_a_bad_first_file_and_a_missing_one_are_named(tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_bytes(b"\x00\xff\xfe not a table")
    with pytest.raises(MasterRefused):
        await source_of(tmp_path, bad).snapshot(SMALL_DAY)
    with pytest.raises(MasterRefused, match=r"BT_INSTRUMENT_MASTER was .*names no file"):
        await source_of(tmp_path, tmp_path / "nowhere.csv").snapshot(SMALL_DAY)
