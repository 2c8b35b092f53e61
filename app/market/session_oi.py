"""What open interest is measured against, and what sessions ended at. Pure.

By token: a new instrument master may give an id to another contract, or a contract another id.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple

from app.core.ids import Segment
from app.core.instruments import Instrument


class OiBasis(IntEnum):
    """What ``oi_change`` is measured against."""

    NONE = 0
    PREVIOUS_SESSION = 1  # the last OI of the previous session, as kept by this service
    REST = 2  # the broker's REST quote
    FEED = 3  # a previous-close packet


OI_BASIS_NAMES = {
    OiBasis.NONE: None,
    OiBasis.PREVIOUS_SESSION: "previous_session",
    OiBasis.REST: "rest",
    OiBasis.FEED: "feed",
}


class PreviousOi(NamedTuple):
    oi: int
    basis: OiBasis


class SessionOi:
    """OWNS the baselines of the newest session of each segment, and the OI at which it ended once it is over.

    A session is named by the moment of its close, epoch ms UTC.
    """

    def __init__(self) -> None:
        self._previous: dict[Segment, dict[str, PreviousOi]] = {segment: {} for segment in Segment}
        self._ended: dict[Segment, tuple[int | None, Mapping[str, int]]] = {segment: (None, {}) for segment in Segment}

    def previous(self, instrument: Instrument) -> PreviousOi | None:
        """What its OI is measured against."""
        return self._previous[instrument.key.segment].get(instrument.token)

    def put(self, segment: Segment, previous: Mapping[str, PreviousOi]) -> None:
        """These are a segment's baselines, and no others."""
        self._previous[segment] = dict(previous)

    def add(self, instrument: Instrument, previous: PreviousOi) -> bool:
        """A baseline for an instrument; False where it has one already."""
        return self._previous[instrument.key.segment].setdefault(instrument.token, previous) is previous

    def ended_at(self, segment: Segment) -> Mapping[str, int]:
        """What the segment's newest session ended at; empty while it runs."""
        return self._ended[segment][1]

    def end(self, segment: Segment, closed_ms: int, told: Mapping[str, int]) -> None:
        """The session that closed then is over, and ended at that."""
        self._ended[segment] = closed_ms, dict(told)

    def begin(self, segment: Segment, before_ms: int | None, heard: Mapping[str, int]) -> None:
        """A session begins: what the one before it ended at becomes the baseline.

        ``before_ms`` names that session, None where there was none lately; ``heard`` was told since its close.
        """
        closed_ms, ended = self._ended[segment]
        told = {**(ended if closed_ms == before_ms else {}), **heard}
        self._previous[segment] = {token: PreviousOi(oi, OiBasis.PREVIOUS_SESSION) for token, oi in told.items()}
        self._ended[segment] = None, {}
