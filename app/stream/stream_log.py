"""The recent past of one encoded sequence, shared by every client that reads it. Pure.

Clients hold no queue: each has a cursor into this log. One that falls behind is given the newest snapshot instead of a
backlog.
"""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass
from enum import IntEnum

LAG_MAX = 4  # steps a reader may be behind before it gets a snapshot instead
KEEP_BYTES = 262_144
KEEP_STEPS = 600
_ENVELOPE = struct.Struct("<BxxxIQ")


class Part(IntEnum):
    SNAPSHOT = 1
    DELTA = 2


@dataclass(frozen=True, slots=True)
class Step:
    """One message of a sequence as clients get it. ``dictionary`` goes before a binary snapshot, else it is empty."""

    part: Part
    seq: int
    body: bytes
    dictionary: bytes = b""


def pack_step(step: Step) -> bytes:
    """A step as it travels on the bus."""
    return b"".join((_ENVELOPE.pack(step.part, len(step.dictionary), step.seq), step.dictionary, step.body))


def unpack_step(payload: bytes) -> Step:
    """Read a step off the bus. Raises ``ValueError`` for bytes that are none."""
    if len(payload) < _ENVELOPE.size:
        raise ValueError("a step has a header of 16 bytes")
    part, length, seq = _ENVELOPE.unpack_from(payload)
    start = _ENVELOPE.size + length
    if start > len(payload):
        raise ValueError("a step is cut short")
    return Step(Part(part), seq, payload[start:], payload[_ENVELOPE.size : start])


@dataclass(slots=True)
class Cursor:
    """Where a reader stands. ``next_seq`` 0: it needs a snapshot. Up to ``patient_until`` it takes every step.

    ``dictionary`` is the hash of the newest dictionary sent to it.
    """

    next_seq: int = 0
    patient_until: int = 0
    dictionary: int = 0

    def needs(self, dictionary: bytes) -> bool:
        """Whether this dictionary has to go before the next step; from then on it counts as sent."""
        if not dictionary or self.dictionary == hash(dictionary):
            return False
        self.dictionary = hash(dictionary)
        return True


class StreamLog:
    """The newest snapshot and the steps after it, bounded in bytes and steps."""

    def __init__(self, keep_bytes: int = KEEP_BYTES, keep_steps: int = KEEP_STEPS) -> None:
        self.head = 0  # number of the newest step; 0 before any
        self.dictionary = b""  # the newest
        self._keep_bytes = keep_bytes
        self._keep_steps = keep_steps
        self._steps: deque[Step] = deque()
        self._bytes = 0
        self._snapshot: Step | None = None

    def append(self, step: Step) -> None:
        """Take the next step, or a snapshot asked for in between, which has the number of a step already taken.

        A number that does not follow means that steps were lost on the way: what came before is of no use any more.
        """
        if step.part is Part.SNAPSHOT:
            self._snapshot = step
            self.dictionary = step.dictionary
            if step.seq == self.head:
                return
        if step.seq != self.head + 1:
            self._steps.clear()
            self._bytes = 0
            if step.part is Part.DELTA:
                self._snapshot = None
        self.head = step.seq
        self._steps.append(step)
        self._bytes += len(step.body)
        while self._bytes > self._keep_bytes or len(self._steps) > self._keep_steps:
            self._bytes -= len(self._steps.popleft().body)

    @property
    def has_fresh_snapshot(self) -> bool:
        """Whether a reader that needs a snapshot can be served without asking for one."""
        return self._snapshot is not None and self._reaches_head(self._snapshot, LAG_MAX - 1)

    def has(self, seq: int) -> bool:
        """Whether the step with that number is still here."""
        return bool(self._steps) and self._steps[0].seq <= seq <= self.head

    def resume(self, seq: int) -> Cursor:
        """A cursor for a reader that has seen ``seq``: at the missing steps if all are here, else at a snapshot.

        Steps before a snapshot among the missing ones are left out: they would be of no use.
        """
        if not self.head or not (seq == self.head or self.has(seq + 1)):
            return Cursor()
        snapshots = (step.seq for step in reversed(self._steps) if step.part is Part.SNAPSHOT and step.seq > seq)
        return Cursor(next(snapshots, seq + 1), self.head)

    def is_done(self, cursor: Cursor) -> bool:
        return cursor.next_seq == self.head + 1

    def pull(self, cursor: Cursor, *, newest: bool = False) -> Step | None:
        """The next message for this reader, moving its cursor; None if a snapshot is needed and none is fresh enough.

        ``newest``: a snapshot of the newest step only, none with a few steps after it. Call only while not
        :meth:`is_done`.
        """
        lag = self.head - cursor.next_seq + 1
        if self.has(cursor.next_seq) and (lag <= LAG_MAX or cursor.next_seq <= cursor.patient_until):
            step = self._steps[cursor.next_seq - self._steps[0].seq]
        elif self._snapshot is not None and self._reaches_head(self._snapshot, 0 if newest else LAG_MAX - 1):
            step = self._snapshot
        else:
            return None
        cursor.next_seq = step.seq + 1
        return step

    def _reaches_head(self, snapshot: Step, behind_max: int) -> bool:
        behind = self.head - snapshot.seq
        return behind == 0 or (behind <= behind_max and self.has(snapshot.seq + 1))
