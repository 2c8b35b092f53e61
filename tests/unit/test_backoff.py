from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from app.core.backoff import Backoff


@given(st.integers(0, 2**32), st.integers(1, 60))
def test_delays_stay_under_a_doubling_ceiling(seed: int, attempts: int) -> None:
    backoff = Backoff(random.Random(seed))
    for attempt in range(attempts):
        assert 0.0 <= backoff.next_delay_s() <= min(30.0, 0.25 * 2**attempt)


def test_only_a_healthy_spell_resets() -> None:
    backoff = Backoff(random.Random(1))
    for _ in range(8):
        backoff.next_delay_s()
    backoff.was_up_for(59.9)
    assert backoff.attempts == 8
    backoff.was_up_for(60.0)
    assert backoff.attempts == 0


def test_the_floor_of_a_policy_comes_on_top() -> None:
    assert Backoff(random.Random(3)).next_delay_s(60.0) >= 60.0
