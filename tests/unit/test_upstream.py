"""The simulator's credential: a refused one is replaced, as the account's would be."""

from __future__ import annotations

from pathlib import Path

from app.ports.feed import TickBuffers
from app.runtime.upstream import build_upstream
from app.settings import Settings
from tests.tiny_market import HandClock


async def test_a_simulated_token_that_is_refused_is_replaced_once_asked(tmp_path: Path) -> None:
    told: list[str] = []
    settings = Settings(bt_feed="simulator", bt_data_dir=tmp_path)
    upstream = build_upstream(settings, TickBuffers(8, 5), HandClock(), "secret", lambda: told.append("new"))
    try:
        first = await upstream.tokens.token()
        upstream.tokens.refused(first)
        assert await upstream.tokens.renew()
        assert await upstream.tokens.token() != first
        assert told == ["new"]
    finally:
        await upstream.http.aclose()
