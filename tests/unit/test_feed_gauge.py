"""Packets a second and lag per connection, over the last seconds only."""

from __future__ import annotations

import pytest

from app.market.feed_gauge import LATE_LOOKS, WINDOW_LOOKS, FeedGauge, FeedReading
from app.ports.feed import LAG_BUCKET_MS, LAG_BUCKETS, TickBuffers
from tests.tiny_market import HandClock


class Rig:
    def __init__(self) -> None:
        self.buffers = TickBuffers(slots=8, connections=2)
        self.clock = HandClock()
        self.gauge = FeedGauge(self.buffers, self.clock, late_ms=5_000.0)

    def second(self, packets: int, *lags_ms: int) -> None:
        """One second on connection 0."""
        self.buffers.counters[0].packets += packets
        for lag_ms in lags_ms:
            self.buffers.lag_table[0, min(lag_ms // LAG_BUCKET_MS, LAG_BUCKETS - 1)] += 1
        self.clock.advance(1.0)
        self.gauge.look()


def test_nothing_came_yet() -> None:
    rig = Rig()
    assert rig.gauge.reading(0) == FeedReading(0.0, None, None)
    rig.second(0)
    assert rig.gauge.reading(0) == FeedReading(0.0, None, None)


def test_each_connection_has_its_own_reading() -> None:
    rig = Rig()
    rig.second(300, *[500] * 98, 4_000, 9_000)
    assert rig.gauge.reading(0).packets_per_s == 300.0
    assert rig.gauge.reading(0).lag_p50_ms == pytest.approx(500, abs=LAG_BUCKET_MS)
    assert rig.gauge.reading(0).lag_p99_ms == pytest.approx(4_000, abs=LAG_BUCKET_MS)
    assert rig.gauge.reading(1) == FeedReading(0.0, None, None)


def test_what_is_over_ten_seconds_old_does_not_count() -> None:
    rig = Rig()
    rig.second(1_000, *[8_000] * 50)
    for _ in range(9):
        rig.second(100, 200)
    assert rig.gauge.reading(0).packets_per_s == 190.0
    assert rig.gauge.reading(0).lag_p50_ms == pytest.approx(8_000, abs=LAG_BUCKET_MS)
    rig.second(100, 200)
    assert rig.gauge.reading(0).packets_per_s == 100.0
    assert rig.gauge.reading(0).lag_p99_ms == pytest.approx(200, abs=LAG_BUCKET_MS)


def test_a_lag_longer_than_the_histogram_is_told_as_its_end() -> None:
    rig = Rig()
    rig.second(1, 3_600_000)
    assert rig.gauge.reading(0).lag_p50_ms == pytest.approx(LAG_BUCKETS * LAG_BUCKET_MS, abs=LAG_BUCKET_MS)


def test_a_connection_is_late_once_its_prices_were_old_for_a_while_and_until_they_are_not() -> None:
    rig = Rig()
    rig.second(10, *[200] * 10)
    for _ in range(WINDOW_LOOKS + LATE_LOOKS):
        rig.second(10, *[12_000] * 10)
    assert rig.gauge.reading(0).is_late
    assert not rig.gauge.reading(1).is_late
    for _ in range(WINDOW_LOOKS // 2):
        rig.second(10, *[200] * 10)
    assert rig.gauge.reading(0).is_late
    for _ in range(LATE_LOOKS):
        rig.second(10, *[200] * 10)
    assert not rig.gauge.reading(0).is_late


def test_old_trades_told_at_once_after_a_gap_are_not_late() -> None:
    rig = Rig()
    rig.second(1_000, *[90_000] * 1_000)
    for _ in range(WINDOW_LOOKS + LATE_LOOKS):
        rig.second(5, 300)
        assert not rig.gauge.reading(0).is_late


def test_a_late_connection_that_falls_silent_is_late_no_more() -> None:
    rig = Rig()
    for _ in range(WINDOW_LOOKS + LATE_LOOKS):
        rig.second(10, *[12_000] * 10)
    for _ in range(WINDOW_LOOKS + LATE_LOOKS):
        rig.second(0)
    assert not rig.gauge.reading(0).is_late
