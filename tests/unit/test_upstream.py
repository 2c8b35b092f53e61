"""The simulator's credential is replaced as the account's would be; what cannot be kept does not stop the feed."""

from __future__ import annotations

from pathlib import Path

from structlog.testing import capture_logs

from app.ports.feed import TickBuffers
from app.runtime.upstream import build_hooks, build_upstream
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


async def test_a_rate_limit_that_cannot_be_kept_does_not_stop_the_feed(tmp_path: Path) -> None:
    settings = Settings(bt_feed="simulator", bt_data_dir=tmp_path / "data")
    (tmp_path / "data").write_text("a file where the folder should be")

    async def renew() -> bool:
        return False

    with capture_logs() as logs:
        build_hooks(settings, renew, lambda event: None).remember_cooldown(1_770_000_000_000)
    assert [(each["event"], each["what"]) for each in logs] == [("not kept", "rate limit")]
