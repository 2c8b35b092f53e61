"""Keeps the last open interest of a session on disk: the baseline of ``oi_change`` (contract, rule 11).

Contracts are named by token, because the exchange gives ids of expired contracts to others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from datetime import date, datetime
from pathlib import Path

import orjson
import structlog

from app.core.ids import Segment
from app.core.sessions import Calendar
from app.market.live_prices import LivePrices
from app.market.session_oi import OiBasis, PreviousOi

FOLDER = "open-interest"
FILES_KEPT_PER_SEGMENT = 5


class OpenInterestBook:
    """One small file per segment and session day."""

    def __init__(
        self,
        directory: Path,
        board: LivePrices,
        calendar: Calendar,
        now: Callable[[], datetime],
    ) -> None:
        self._folder = directory / FOLDER
        self._board = board
        self._calendar = calendar
        self._now = now

    def keep(self, segment: Segment, day: date) -> None:
        """Write what the segment's session of that day ended at; called when it is over, and never before."""
        by_token = self._board.ended_oi(segment)
        if not by_token:
            return
        try:
            self._write(self._path(segment, day), by_token)
        except OSError as error:
            structlog.get_logger("open_interest").warning("not kept", segment=segment.name, error=str(error))

    def load(self) -> None:
        """Hand to the board what was kept of the session before the newest, and of the newest if that is over.

        What is older is no baseline.
        """
        now = self._now()
        for segment in Segment:
            latest = self._calendar.latest_session(segment, now)
            before = None if latest is None else self._calendar.session_before(segment, latest)
            kept = {} if before is None else self._read(self._path(segment, before.day))
            previous = {token: PreviousOi(oi, OiBasis.PREVIOUS_SESSION) for token, oi in kept.items()}
            self._board.set_previous_oi(segment, previous)
            if latest is not None and latest.close <= now:
                self._board.set_ended_oi(segment, latest.close_ms, self._read(self._path(segment, latest.day)))

    def _path(self, segment: Segment, day: date) -> Path:
        return self._folder / f"{segment.name}-{day.isoformat()}.json"

    def _write(self, path: Path, by_token: Mapping[str, int]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_bytes(orjson.dumps(by_token))
        part.replace(path)
        segment = Segment[path.stem.split("-")[0]]
        for old in self._files(segment)[:-FILES_KEPT_PER_SEGMENT]:
            old.unlink(missing_ok=True)

    def _read(self, path: Path) -> dict[str, int]:
        with contextlib.suppress(OSError, orjson.JSONDecodeError):
            return {token: int(oi) for token, oi in orjson.loads(path.read_bytes()).items()}
        return {}

    def _files(self, segment: Segment) -> list[Path]:
        return sorted(self._folder.glob(f"{segment.name}-*.json"))
