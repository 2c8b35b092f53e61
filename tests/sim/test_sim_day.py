"""Short days of the whole service under faults, every seed that ever failed, and the same trace for the same seed."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.sim.day import REGRESSIONS, Outcome, Universe, regressions, simulate
from tests.sim.stage import Props

ROOT = Path(__file__).resolve().parents[2]
SHORT = [(1, 1.5, Universe.SMALL), (5, 1.5, Universe.SMALL), (10, 1.5, Universe.SMALL), (4, 4.0, Universe.SMALL)]


@pytest.fixture(scope="module")
def props(tmp_path_factory: pytest.TempPathFactory) -> Props:
    return Props(tmp_path_factory.mktemp("sim"))


def simulated(seed: int, minutes: float, props: Props, universe: Universe = Universe.SMALL) -> Outcome:
    """In a thread of its own: this one has a running loop."""
    done: list[Outcome] = []
    thread = threading.Thread(target=lambda: done.append(simulate(seed, minutes, props, universe)))
    thread.start()
    thread.join()
    return done[0]


@pytest.mark.parametrize(("seed", "minutes", "universe"), [*SHORT, *regressions()])
def test_nothing_goes_wrong_on_a_day_full_of_faults(
    seed: int, minutes: float, universe: Universe, props: Props
) -> None:
    outcome = simulated(seed, minutes, props, universe)
    assert outcome.complaints == []
    assert outcome.counts["prices"] > 1_000
    assert outcome.counts["told"] > 20


def test_nothing_goes_wrong_in_busy_spells_with_quiet_stretches_between(props: Props) -> None:
    outcome = simulated(54, 60.0, props)
    assert outcome.complaints == []
    assert outcome.counts["second"] < 1_500
    assert outcome.counts["act"] > 10


def test_nothing_goes_wrong_with_the_universe_in_full(props: Props) -> None:
    outcome = simulated(1, 1.0, props, Universe.FULL)
    assert outcome.complaints == []
    assert outcome.counts["most"] > 8_250
    assert outcome.counts["prices"] > 20_000


def test_nothing_goes_wrong_on_a_day_that_nobody_has_seen(props: Props) -> None:
    seed = random.SystemRandom().randrange(1_000_000)
    outcome = simulated(seed, 2.0, props)
    assert outcome.complaints == [], f"keep it: {seed} 2 in {REGRESSIONS}"


def test_the_same_seed_is_the_same_day_in_another_process(props: Props) -> None:
    script = (
        "from pathlib import Path; from tests.sim.day import simulate; from tests.sim.stage import Props;"
        f"print(simulate(9, 1.0, Props(Path({str(props.directory)!r}))).trace)"
    )
    other = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env={"PYTHONHASHSEED": "1"}, capture_output=True, check=True
    )
    first, second = simulated(9, 1.0, props), simulated(10, 1.0, props)
    assert other.stdout.decode().split() == [first.trace]
    assert first.trace != second.trace
