"""Faults as values: what is read, what is refused, and plans that repeat by seed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.ids import Segment
from app.sim.faults import BadFault, Fault, FaultKind, make_fault, parse_fault, plan_faults

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2),
    max_leaves=3,
)


def test_a_whole_description_is_read() -> None:
    described = {"kind": "mute", "connection": 3, "segment": "NSE_FNO", "seconds": 12}
    assert parse_fault(described) == Fault(FaultKind.MUTE, 3, Segment.NSE_FNO, None, 12.0, 0.0)


@pytest.mark.parametrize("kind", [kind for kind in FaultKind if kind is not FaultKind.JUMP])
def test_every_kind_has_defaults(kind: FaultKind) -> None:
    assert make_fault(kind) == parse_fault({"kind": kind.value})


@pytest.mark.parametrize(
    "described",
    [
        {},
        {"kind": "earthquake"},
        {"kind": "mute", "colour": "red"},
        {"kind": "mute", "seconds": -1},
        {"kind": "mute", "seconds": True},
        {"kind": "mute", "segment": "NASDAQ"},
        {"kind": "cut", "segment": "NSE_EQ"},
        {"kind": "cut", "connection": "first"},
        {"kind": "refuse", "value": 200},
        {"kind": "jump"},
        {"kind": "mute", "symbol": "NIFTY"},
        {"kind": "jump", "symbol": "NIFTY", "value": -1.0},
    ],
)
def test_what_is_no_fault_is_refused(described: dict[str, object]) -> None:
    with pytest.raises(BadFault):
        parse_fault(described)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["kind", "connection", "segment", "symbol", "seconds", "value"]), JSON))
def test_nothing_but_bad_fault_leaves_the_reader(described: dict[str, object]) -> None:
    try:
        fault = parse_fault(described)
    except BadFault:
        return
    assert fault.kind in FaultKind


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), gap_s=st.floats(1.0, 1_000.0))
def test_a_plan_repeats_by_seed_and_stays_in_its_day(seed: int, gap_s: float) -> None:
    plan = plan_faults(seed, 3_600.0, gap_s)
    assert plan == plan_faults(seed, 3_600.0, gap_s)
    assert [timed.at_s for timed in plan] == sorted(timed.at_s for timed in plan)
    assert all(0.0 <= timed.at_s < 3_600.0 and timed.fault.seconds <= 90.0 for timed in plan)
    assert {timed.fault.kind for timed in plan}.isdisjoint({FaultKind.JUMP, FaultKind.TOKEN_EXPIRY, FaultKind.ZERO})


def test_a_long_plan_has_every_kind_asked_for() -> None:
    kinds = (FaultKind.CUT, FaultKind.TOKEN_EXPIRY)
    assert {timed.fault.kind for timed in plan_faults(1, 86_400.0, 60.0, kinds)} == set(kinds)
    assert len({timed.fault.kind for timed in plan_faults(1, 86_400.0, 60.0)}) == len(FaultKind) - 3
