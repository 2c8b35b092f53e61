"""The service's time when the machine's clock is set, and the numbers of its lives."""

from __future__ import annotations

from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from app.runtime.clock import STEP_MAX_S, ShiftedClock
from app.runtime.places import next_life
from app.settings import Settings

IST = ZoneInfo("Asia/Kolkata")
START_S = 1_770_000_000.0


class Machine:
    """A machine whose clock is set now and then."""

    def __init__(self) -> None:
        self.passed_s = self.set_by_s = 0.0
        self.clock = ShiftedClock(IST, epoch_s=lambda: START_S + self.passed_s + self.set_by_s, monotonic_s=self.up_s)

    def up_s(self) -> float:
        return self.passed_s

    def wait(self, seconds: float) -> float:
        """How much time the service saw pass."""
        before = self.clock.now_ms()
        self.passed_s += seconds
        return (self.clock.now_ms() - before) / 1000


def test_an_undisturbed_clock_tells_the_machines_time() -> None:
    machine = Machine()
    assert [machine.wait(10.0) for _ in range(3)] == [10.0, 10.0, 10.0]
    assert machine.clock.now().timestamp() == START_S + 30.0


@pytest.mark.parametrize("step_s", [-600.0, -2.0, 2.0, 600.0])
def test_a_clock_that_is_set_is_followed_without_a_jump(step_s: float) -> None:
    machine = Machine()
    machine.set_by_s = step_s
    assert machine.wait(0.0) == 0.0
    first = machine.wait(1.0)
    assert first == pytest.approx(1.5 if step_s > 0 else 0.5, abs=0.002)
    machine.wait(2.0 * abs(step_s))
    assert machine.clock.now().timestamp() == pytest.approx(START_S + machine.passed_s + step_s)
    assert machine.wait(5.0) == pytest.approx(5.0, abs=0.002)


def test_after_hours_of_sleep_it_is_what_the_machine_says_at_once() -> None:
    machine = Machine()
    before_ms = machine.clock.now_ms()
    machine.set_by_s = 2 * STEP_MAX_S
    assert machine.clock.now_ms() - before_ms == 2 * STEP_MAX_S * 1000


@given(st.lists(st.tuples(st.floats(0.0, 60.0), st.floats(-3_000.0, 3_000.0)), max_size=20))
def test_it_never_runs_back_and_never_more_than_half_as_fast_again(events: list[tuple[float, float]]) -> None:
    machine = Machine()
    for seconds, step_s in events:
        if abs(machine.set_by_s + step_s) < STEP_MAX_S / 2:  # greater ones together are followed at once
            machine.set_by_s += step_s
        assert 0.5 * seconds - 0.002 <= machine.wait(seconds) <= 1.5 * seconds + 0.002


def test_two_lives_never_have_one_number(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, bt_feed="off", bt_data_dir=tmp_path / "data")
    assert [next_life(settings, now_s) for now_s in (1_000, 1_000, 990, 2_000)] == [1_000, 1_001, 1_002, 2_000]
    (tmp_path / "data" / "life").write_text("no number")
    assert next_life(settings, 3_000) == 3_000


def test_a_life_that_cannot_be_kept_is_told_and_the_service_goes_on(tmp_path: Path) -> None:
    (tmp_path / "data" / "life.part").mkdir(parents=True)
    with capture_logs() as logs:
        life = next_life(Settings(_env_file=None, bt_feed="off", bt_data_dir=tmp_path / "data"), 1_000)
    assert life == 1_000
    assert [(each["event"], each["what"]) for each in logs] == [("not kept", "life")]
