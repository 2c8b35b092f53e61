"""One conflated sequence: what its readers have been shown, and the next step from there. Pure.

Each (topic, rate class) is one sequence whose numbers go up by one. Numbers of different classes, and of different
lives of the process, never meet, so that an old number is never taken for a known one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from app.stream.fields import ROW_FIELDS
from app.stream.frames import Doc, Floats, Update, difference
from app.stream.topics import RATES_HZ

LIFE_BITS = 31  # seconds since 2024: 68 years
STEP_BITS = 20  # steps one life has before its numbers reach those of a life one second later
LIFE_EPOCH_S = 1_704_067_200


def first_seq(hz: int, life_s: int) -> int:
    """The first number of a sequence. ``life_s``: epoch second in which this life of the process began.

    All numbers stay below 2**53, the largest that JavaScript counts by one.
    """
    life = (life_s - LIFE_EPOCH_S) & ((1 << LIFE_BITS) - 1)
    return (RATES_HZ.index(hz) << (LIFE_BITS + STEP_BITS)) + (life << STEP_BITS) + 1


@dataclass(frozen=True, slots=True)
class Picture:
    """A topic at one moment: its rows in full width (None for a topic without rows) and the members beside them."""

    doc: Doc
    values: Floats | None = None
    generation: int = 0


class Sequence:
    """The steps of one (topic, rate class). ``seq`` is the number of the last step taken."""

    def __init__(self, first: int) -> None:
        self.seq = first - 1
        self._shown: Picture | None = None

    @property
    def generation(self) -> int | None:
        """Of the rows shown so far; None before the first step."""
        return None if self._shown is None else self._shown.generation

    def snapshot(self, at_ms: int) -> Update | None:
        """What has been shown so far, under the number of the last step; None before the first."""
        shown = self._shown
        if shown is None:
            return None
        rows = None if shown.values is None else np.arange(len(shown.values))
        return Update(True, self.seq, at_ms, shown.doc, rows, shown.values)

    def advance(self, picture: Picture, at_ms: int) -> Update | None:
        """The step from what was shown to ``picture``; None if nothing differs.

        The first step, and one after the rows have become others, is a snapshot.
        """
        shown = self._shown
        if shown is None or shown.generation != picture.generation:
            self._show(picture)
            return self.snapshot(at_ms)
        doc = difference(shown.doc, picture.doc)
        rows, values, changed = None, None, None
        if picture.values is not None and shown.values is not None:
            differs = picture.values.view(np.int64) != shown.values.view(np.int64)
            rows = np.flatnonzero(differs.any(axis=1))
            values, changed = picture.values[rows], differs[rows]
        if not doc and (rows is None or not rows.size):
            return None
        self._show(picture)
        return Update(False, self.seq, at_ms, doc, rows, values, changed)

    def _show(self, picture: Picture) -> None:
        assert picture.values is None or picture.values.shape[1] == len(ROW_FIELDS)
        self._shown = picture
        self.seq += 1
