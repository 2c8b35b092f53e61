"""The ledger of finished runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.sim.many import Entry, Ledger

GOOD = Entry(7, 5.0, True, 1.5, 10.0, "abc", "2026-02-03T10:00:00+00:00")


def test_what_was_finished_is_known_after_a_stop_and_a_line_cut_off_by_it_is_not(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "ledger.jsonl"
    ledger = Ledger(path)
    assert ledger.done(5.0) == set()
    ledger.add(GOOD)
    ledger.add(replace(GOOD, seed=8, is_good=False, complaint="lost"))
    ledger.add(replace(GOOD, seed=9, minutes=405.0))
    with path.open("a") as file:
        file.write('\n{"seed": 10, "minutes": 5.0, "is_g')
    again = Ledger(path)
    assert again.done(5.0) == {7, 8}
    assert again.done(405.0) == {9}
    again.add(replace(GOOD, seed=11))
    assert Ledger(path).entries == again.entries
    assert again.entries[:3] == ledger.entries
