"""Placement, levelling and the commands of a plan."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.ids import InstrumentKey, Mode, Segment
from app.market.reconcile import difference, level, next_command, place, plan
from app.ports.feed import FeedLimits

DHAN = FeedLimits(5, 5_000, 100)
LOADS = st.lists(st.integers(0, 5_000), min_size=5, max_size=5)


def keys(first: int, count: int) -> list[InstrumentKey]:
    return [InstrumentKey(Segment.NSE_FNO, number) for number in range(first, first + count)]


def full(wanted: list[InstrumentKey]) -> dict[InstrumentKey, Mode]:
    return dict.fromkeys(wanted, Mode.FULL)


@pytest.mark.parametrize(
    ("loads", "open_to", "expected"),
    [
        ([0, 0, 0, 0, 0], {0, 1, 2, 3, 4}, 0),
        ([3, 2, 2, 5, 9], {0, 1, 2, 3, 4}, 1),
        ([3, 2, 2, 5, 9], {0, 2, 3, 4}, 2),
        ([5_000, 5_000, 4_999, 5_000, 5_000], {0, 1, 2, 3, 4}, 2),
        ([5_000] * 5, {0, 1, 2, 3, 4}, None),
        ([0] * 5, set(), None),
    ],
)
def test_least_loaded_with_the_lowest_number_on_ties(loads: list[int], open_to: set[int], expected: int | None) -> None:
    assert place(loads, open_to, DHAN.instruments_per_connection) == expected


@given(LOADS)
def test_a_reserve_for_moves_is_kept_below_20_000(loads: list[int]) -> None:
    chosen = place(loads, range(5), DHAN.instruments_per_connection)
    if sum(loads) < 20_000:
        assert chosen is not None
        assert loads[chosen] < 4_000


@given(LOADS, st.sets(st.integers(0, 4), min_size=1))
def test_levelling_is_complete_and_moves_nothing_twice(loads: list[int], open_to: set[int]) -> None:
    after = list(loads)
    for shift in level(loads, open_to):
        assert shift.number > 0
        after[shift.source] -= shift.number
        after[shift.target] += shift.number
    levelled = [after[index] for index in open_to]
    assert max(levelled) - min(levelled) <= 1
    assert level(after, open_to) == []
    moved = sum(shift.number for shift in level(loads, open_to))
    average = sum(loads[index] for index in open_to) / len(open_to)
    assert moved <= sum(max(0, loads[index] - average + 1) for index in open_to)


def test_with_room_the_new_come_before_the_old_leave() -> None:
    first = next_command(50, full(keys(100, 30)), full(keys(1, 30)), limit=100, batch=100)
    assert first is not None
    assert first.subscribe
    assert len(first.keys) == 30


def test_without_room_the_old_leave_first() -> None:
    first = next_command(100, full(keys(100, 30)), full(keys(1, 30)), limit=100, batch=100)
    assert first is not None
    assert not first.subscribe


def test_a_full_socket_without_drops_waits() -> None:
    assert next_command(100, full(keys(100, 30)), {}, limit=100, batch=100) is None


def test_one_message_holds_one_mode() -> None:
    wished = {InstrumentKey(Segment.IDX_I, 13): Mode.QUOTE} | full(keys(1, 5))
    commands = list(plan(wished, {}, limit=100, batch=100))
    assert [(command.mode, len(command.keys)) for command in commands] == [(Mode.QUOTE, 1), (Mode.FULL, 5)]


def test_another_mode_is_dropped_before_it_is_added() -> None:
    key = keys(1, 1)[0]
    commands = list(plan({key: Mode.FULL}, {key: Mode.TICKER}, limit=10, batch=10))
    assert [(command.subscribe, command.mode) for command in commands] == [(False, Mode.TICKER), (True, Mode.FULL)]


@given(
    st.sets(st.integers(1, 40), max_size=12),
    st.sets(st.integers(1, 40), max_size=12),
    st.integers(12, 20),
    st.integers(1, 7),
)
def test_a_plan_converges_within_its_bounds(want: set[int], have: set[int], limit: int, batch: int) -> None:
    wished = full([InstrumentKey(Segment.NSE_FNO, number) for number in want])
    carried = full([InstrumentKey(Segment.NSE_FNO, number) for number in have])
    for command in list(plan(wished, carried, limit, batch)):
        assert 1 <= len(command.keys) <= batch
        for key in command.keys:
            if command.subscribe:
                carried[key] = command.mode
            else:
                assert carried.pop(key) is command.mode
        assert len(carried) <= limit
    assert carried == wished
    assert difference(wished, carried) == ({}, {})
    assert list(plan(wished, carried, limit, batch)) == []


def test_a_cold_plan_of_25_000_is_250_messages() -> None:
    per_line = [list(plan(full(keys(1 + 5_000 * line, 5_000)), {}, 5_000, 100)) for line in range(5)]
    assert sum(map(len, per_line)) == 250
    assert {len(command.keys) for commands in per_line for command in commands} == {100}
