"""Silence that is normal is never called STALE; silence that is not, soon is."""

from __future__ import annotations

import numpy as np
import pytest

from app.core.ids import Segment
from tests.quiet_market import QuietMarket

INSTRUMENTS = 776
HEALTHY_S = 1_500


@pytest.mark.slow
def test_on_a_healthy_day_with_33_silent_a_minute_nothing_is_stale_but_what_dies_is() -> None:
    rng = np.random.default_rng(1)
    mean_gap_s = np.exp(rng.normal(np.log(3.8), 1.75, INSTRUMENTS))  # as one account saw it: 33 of 776 silent a minute
    chance = 1.0 - np.exp(-1.0 / mean_gap_s)
    market = QuietMarket([Segment.NSE_FNO] * INSTRUMENTS, "2026-02-03T09:15:00")
    market.second(list(range(INSTRUMENTS)))  # each subscribe brings a first packet
    silent_a_minute, cried = [], set()
    last = np.zeros(INSTRUMENTS)
    for second in range(1, HEALTHY_S):
        ticking = np.flatnonzero(rng.random(INSTRUMENTS) < chance)
        last[ticking] = second
        market.second(ticking)
        if second % 5 == 0:
            cried |= {number for number, state in enumerate(market.states()) if state == "STALE"}
        if second % 60 == 0:
            silent_a_minute.append(int((second - last >= 60).sum()))
    assert np.mean(silent_a_minute) >= 33
    assert cried == set(), "normal silence was called stale"
    assert market.told == []

    lively = np.flatnonzero(mean_gap_s < 2.0)[:5]
    chance[lively] = 0.0  # these die
    for _ in range(180):
        market.second(np.flatnonzero(rng.random(INSTRUMENTS) < chance))
    states = market.states()
    assert {number for number, state in enumerate(states) if state == "STALE"} == set(lively.tolist())
