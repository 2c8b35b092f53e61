"""The loop's lag: the worst of the last minute, and how much of it was waiting for a core."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from app.lifecycle.pulse import Pulse, core_wait_ms
from app.runtime.build import Status
from tests.tiny_market import HandClock


def readings(status: Status) -> tuple[float, float, float]:
    return status.loop_lag_max_ms, status.loop_lag_max_waited_ms, status.loop_lag_own_max_ms


def test_a_starved_beat_is_told_from_one_of_our_own() -> None:
    status = Status()
    pulse = Pulse(HandClock(), status, lambda: 0.0)
    pulse.note(8.0, 0.0)
    pulse.note(60.0, 55.0)
    assert status.loop_lag_ms == 60.0
    assert readings(status) == (60.0, 55.0, 8.0)


def test_waiting_while_nothing_was_due_does_not_excuse_more_than_the_lag() -> None:
    status = Status()
    Pulse(HandClock(), status, lambda: 0.0).note(3.0, 15.0)
    assert readings(status) == (3.0, 3.0, 0.0)


def test_a_stall_is_forgotten_after_a_minute_and_not_before() -> None:
    status, clock = Status(), HandClock()
    pulse = Pulse(clock, status, lambda: 0.0)
    pulse.note(70.0, 10.0)
    for _ in range(59):
        clock.advance(1.0)
        pulse.note(1.0, 0.0)
    assert readings(status) == (70.0, 10.0, 60.0)
    for _ in range(2):
        clock.advance(1.0)
        pulse.note(1.0, 0.0)
    assert readings(status) == (1.0, 0.0, 1.0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_core_wait_is_what_the_kernel_counts_for_this_thread() -> None:
    def counted_ms() -> float:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e6

    before_ms = counted_ms()
    assert before_ms <= core_wait_ms() <= counted_ms()
    assert counted_ms() > 0.0
