"""What settings mean: the exchanges' clock, and what the data directory keeps for the next start."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.core.ids import Segment
from app.core.sessions import INDIA, Phase
from app.runtime.places import KEY_FILE, calendar_of, clock_of, secret_key_of
from app.settings import Settings


def settings_in(directory: Path) -> Settings:
    return Settings(_env_file=None, bt_data_dir=directory, bt_feed="off")  # type: ignore[call-arg]


def test_the_zone_of_the_end_of_day_moves_no_session() -> None:
    settings = Settings(_env_file=None, bt_timezone="UTC", bt_feed="off")  # type: ignore[call-arg]
    calendar = calendar_of(settings)
    assert calendar.phase(Segment.NSE_EQ, datetime(2026, 2, 3, 4, 0, tzinfo=UTC)) is Phase.OPEN, "9:30 in India"
    assert calendar.phase(Segment.NSE_EQ, datetime(2026, 2, 3, 12, 0, tzinfo=UTC)) is Phase.CLOSED, "17:30 in India"
    assert clock_of(settings).now().tzinfo is INDIA, "a market's day begins there"
    due = settings.eod_rule.next_after(calendar, datetime(2026, 2, 3, 4, 0, tzinfo=UTC))
    assert due.at == datetime(2026, 2, 3, 15, 30, tzinfo=UTC)


def test_the_key_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    with ThreadPoolExecutor(8) as together:
        keys = set(together.map(lambda _: secret_key_of(settings), range(64)))
    assert len(keys) == 1
    assert len(keys.pop()) > 40
    assert (tmp_path / KEY_FILE).stat().st_mode & 0o077 == 0
    assert [each.name for each in tmp_path.iterdir()] == [KEY_FILE]


def test_a_full_disk_leaves_no_empty_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_in(tmp_path)

    def full(_length: int) -> str:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("app.runtime.places.secrets.token_urlsafe", full)
        with pytest.raises(OSError, match="No space"):
            secret_key_of(settings)
    assert len(secret_key_of(settings)) > 40, "an empty key would sign for anybody"
