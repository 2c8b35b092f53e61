"""What was answered survives ``kill -9``, whole; what was not answered is there whole or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import sys
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from app.ports.store import AuditFilter
from app.storage.sql_store import SqlStore
from tests.contract.committer import LEGS
from tests.contract.fakes import SetClock

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 10


async def commit_until_killed(url: str, round_: int, rng: random.Random) -> list[str]:
    """Run the committer, kill it at a random moment of a random commit; return what it said it had stored."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.contract.committer",
        url,
        str(round_),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    assert child.stdout is not None
    said: list[str] = []
    wanted = rng.randrange(1, 40)
    try:
        while len(said) <= wanted:
            text = await asyncio.wait_for(child.stdout.readline(), 60)
            assert text, "the committer ended by itself"
            said.append(text.decode().strip())
        await asyncio.sleep(rng.uniform(0.0, 0.01))
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        rest, _ = await child.communicate()
    said += rest.decode().split("\n")[:-1]  # a line cut short was not said
    assert said[0] == "ready"
    return said[1:]


@pytest.mark.slow
async def test_nothing_answered_is_lost_to_kill_9(database_url: str) -> None:
    rng = random.Random(database_url.split(":")[0])
    answered: list[str] = []
    for round_ in range(ROUNDS):
        answered += await commit_until_killed(database_url, round_, rng)
        store = SqlStore(database_url, SetClock())
        await store.start()
        loaded = await store.load()
        log = await store.audit(AuditFilter(limit=10**6))
        await store.stop()
        stored = [row.symbol for row in loaded.entries]
        assert set(answered) <= set(stored)
        assert len(stored) == len(set(stored))
        assert len(stored) - len(answered) <= round_ + 1, "at most one commit a round was under way"
        assert Counter(row.symbol for row in loaded.legs) == dict.fromkeys(stored, LEGS)
        assert Counter(row.instrument_token.split("_")[0] for row in log) == dict.fromkeys(stored, LEGS)
    assert len(answered) > ROUNDS
    if database_url.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(str(make_url(database_url).database))) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
