"""A few rounds of the kill loop; ``make kill-loop N=…`` runs many."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.durability.kill_loop import kill_loop

KILLS = 8


def held_true(directory: Path, url: str) -> None:
    loop = kill_loop(directory, url, KILLS, seed=3)
    assert loop.complaints == []
    answered = loop.ledgers[0].answered + loop.ledgers[1].answered
    assert answered["watchlist/add 200"] > KILLS
    assert loop.days >= 1
    assert loop.seen["rows compared"] > 0


@pytest.mark.slow
def test_kill_9_in_a_loop_loses_nothing_answered_on_sqlite(tmp_path: Path, sqlite_url: str) -> None:
    held_true(tmp_path, sqlite_url)


@pytest.mark.slow
def test_kill_9_in_a_loop_loses_nothing_answered_on_postgresql(tmp_path: Path, postgres_url: str) -> None:
    held_true(tmp_path, postgres_url)
