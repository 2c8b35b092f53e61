"""Keeps the last open interest of a session on disk: the baseline of ``oi_change`` (contract, rule 11).

Contracts are named by token, because the exchange gives ids of expired contracts to others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import date
from pathlib import Path

import orjson
import structlog

from app.core.ids import Segment
from app.core.sessions import Calendar
from app.market.live_prices import LivePrices, OiBasis, PreviousOi

FOLDER = "open-interest"
FILES_KEPT_PER_SEGMENT = 5


class OpenInterestBook:
    """One small file per segment and session day."""

    def __init__(
        self,
        directory: Path,
        board: LivePrices,
        calendar: Calendar,
        today: Callable[[], date],
    ) -> None:
        self._folder = directory / FOLDER
        self._board = board
        self._calendar = calendar
        self._today = today

    def keep(self, segment: Segment, day: date) -> None:
        """Write what the segment's instruments stand at; called when the day's session is over and at the stop."""
        by_token = self._board.open_interest(segment)
        if not by_token:
            return
        try:
            self._write(self._folder / f"{segment.name}-{day.isoformat()}.json", by_token)
        except OSError as error:
            structlog.get_logger("open_interest").warning("not kept", segment=segment.name, error=str(error))

    def load(self) -> None:
        """Hand what was kept of the previous session to the board; what is older is no baseline."""
        for segment in Segment:
            day = self._calendar.previous_session_day(segment, self._today())
            kept = {} if day is None else self._read(self._folder / f"{segment.name}-{day.isoformat()}.json")
            self._board.set_previous_oi(segment, kept)

    def _write(self, path: Path, by_token: dict[str, int]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_bytes(orjson.dumps(by_token))
        part.replace(path)
        segment = Segment[path.stem.split("-")[0]]
        for old in self._files(segment)[:-FILES_KEPT_PER_SEGMENT]:
            old.unlink(missing_ok=True)

    def _read(self, path: Path) -> dict[str, PreviousOi]:
        found: dict[str, PreviousOi] = {}
        with contextlib.suppress(OSError, orjson.JSONDecodeError):
            for token, oi in orjson.loads(path.read_bytes()).items():
                found[token] = PreviousOi(int(oi), OiBasis.PREVIOUS_SESSION)
        return found

    def _files(self, segment: Segment) -> list[Path]:
        return sorted(self._folder.glob(f"{segment.name}-*.json"))
