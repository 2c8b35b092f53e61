"""One state per instrument, the first that applies, and the same told in words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from app.market.states import STATES, InstrumentState, StateFacts, states, why

NOW = 1_770_000_000_000


def facts(**changes: object) -> StateFacts:
    """One instrument that is live; ``changes`` say what is different."""
    values: dict[str, object] = {
        "expired": False, "evicted": False, "owned": True, "sent_ms": NOW - 60_000, "last_ms": NOW - 100,
        "usual_gap_ms": 1_000.0, "normal_gap_ms": 1_000.0, "lost_ms": 0, "in_session": True,
        "judged_from_ms": NOW - 3_600_000, "segment_alive": True, **changes,
    }  # fmt: skip
    now_ms = values.pop("now_ms", NOW)
    return StateFacts(**{name: np.array([value]) for name, value in values.items()}, now_ms=now_ms)  # type: ignore[arg-type]


def state(**changes: object) -> InstrumentState:
    return STATES[states(facts(**changes))[0]]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "LIVE"),
        ({"expired": True, "evicted": True, "owned": False}, "EXPIRED"),
        ({"evicted": True, "owned": False}, "EVICTED"),
        ({"evicted": True}, "LIVE"),  # somebody else owns it
        ({"owned": False}, "NOT_SUBSCRIBED"),
        ({"sent_ms": 0, "last_ms": 0}, "WANTED"),
        ({"last_ms": 0}, "SENT"),
        ({"last_ms": 0, "in_session": False}, "SENT"),
        ({"in_session": False}, "CLOSED"),
        ({"in_session": False, "lost_ms": NOW}, "CLOSED"),
        ({"lost_ms": NOW - 50}, "GAP"),
        ({"lost_ms": NOW - 50, "sent_ms": 0}, "GAP"),  # lost and not yet sent again: what is shown is old
        ({"lost_ms": NOW - 200}, "LIVE"),  # a packet has come since
        ({"last_ms": NOW - 30_000}, "QUIET"),
        ({"last_ms": NOW - 30_001}, "STALE"),
        ({"last_ms": NOW - 30_001, "segment_alive": False}, "QUIET"),
        ({"last_ms": NOW - 49_000, "normal_gap_ms": 10_000.0}, "QUIET"),
        ({"last_ms": NOW - 51_000, "normal_gap_ms": 10_000.0}, "STALE"),
        ({"last_ms": NOW - 50_000_000, "judged_from_ms": NOW - 29_000}, "QUIET"),  # the night does not count
        ({"last_ms": NOW - 50_000_000, "judged_from_ms": NOW - 31_000}, "STALE"),
        ({"last_ms": NOW - 900_000, "judged_from_ms": 0}, "QUIET"),  # pre-open, or the closing auction
        ({"last_ms": NOW - 5_000}, "LIVE"),
        ({"last_ms": NOW - 5_001}, "QUIET"),
        ({"last_ms": NOW - 15_000, "usual_gap_ms": 8_000.0}, "LIVE"),
    ],
)
def test_first_state_that_applies(changes: dict[str, object], expected: str) -> None:
    assert state(**changes) == expected


def test_columns_are_judged_row_by_row() -> None:
    one = facts()
    both = replace(
        one,
        **{name: np.repeat(getattr(one, name), 2) for name in one.__slots__ if name != "now_ms"},
    )
    both.owned[1] = False
    assert [STATES[code] for code in states(both)] == ["LIVE", "NOT_SUBSCRIBED"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "sent on socket 3 at 1769999940000; last packet 0.1 s ago; usually one every 1.0 s"),
        ({"owned": False}, "nobody has it on a list"),
        ({"last_ms": 0}, "has not traded today"),
        ({"last_ms": 0, "segment_alive": False}, "nor for anything else in its segment"),
        ({"in_session": False}, "its market is closed"),
        ({"lost_ms": NOW}, "its feed was cut or mute since 1770000000000"),
        ({"last_ms": NOW - 6_000}, "which is normal for it"),
        (
            {"last_ms": NOW - 6_000, "judged_from_ms": 0},
            "values stand still before the open and in the closing auction",
        ),
        ({"last_ms": NOW - 6_000, "segment_alive": False}, "no packet for 6.0 s, nor for anything else in its segment"),
        ({"last_ms": NOW - 31_000, "usual_gap_ms": 0.0}, "how often it usually comes is not known yet"),
    ],
)
def test_why_in_words(changes: dict[str, object], words: str) -> None:
    assert words in why(facts(**changes), socket=3)


def test_why_ends_with_what_the_caller_knows() -> None:
    assert why(facts(evicted=True, owned=False), note="evicted at 10:15 for NIFTY").endswith("at 10:15 for NIFTY")
