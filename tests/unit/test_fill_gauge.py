"""The forecast: rates over the last ten minutes, and when the free places would be used up."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from app.market.fill_gauge import FillGauge
from tests.tiny_market import MORNING, HandClock, Market, share


@dataclass
class Books:
    tier_a_added: int = 0
    tier_a_count: int = 0
    free: int = 1_000


def watch(gauge: FillGauge, clock: HandClock, seconds: int) -> None:
    for _ in range(seconds):
        clock.advance(1)
        gauge.look()


def test_rates_are_unknown_until_a_minute_was_seen() -> None:
    clock, books = HandClock(), Books()
    gauge = FillGauge(books, clock)
    gauge.look()
    watch(gauge, clock, 59)
    assert gauge.forecast().adds_per_min is None
    assert gauge.forecast().full_by is None
    watch(gauge, clock, 1)
    assert gauge.forecast().adds_per_min == 0.0
    assert gauge.forecast().net_per_min == 0.0
    assert gauge.forecast().full_by is None


def test_growth_tells_when_the_places_are_used_up() -> None:
    clock, books = HandClock(), Books()
    gauge = FillGauge(books, clock)
    gauge.look()
    for _ in range(4):
        books.tier_a_added += 100
        books.tier_a_count += 50
        books.free -= 50
        watch(gauge, clock, 60)
    told = gauge.forecast()
    assert (told.free, told.adds_per_min, told.net_per_min, told.window_min) == (800, 100.0, 50.0, 4)
    assert told.full_by == MORNING + timedelta(minutes=4 + 16 + 1)


def test_only_the_last_ten_minutes_count() -> None:
    clock, books = HandClock(), Books()
    gauge = FillGauge(books, clock)
    gauge.look()
    watch(gauge, clock, 30)
    books.tier_a_added, books.tier_a_count = 500, 500
    watch(gauge, clock, 570)
    assert gauge.forecast().net_per_min == 50.0
    watch(gauge, clock, 60)
    assert gauge.forecast().net_per_min == 0.0


def test_what_would_take_longer_than_a_day_is_no_forecast() -> None:
    clock, books = HandClock(), Books(free=20_000)
    gauge = FillGauge(books, clock)
    gauge.look()
    watch(gauge, clock, 60)
    books.tier_a_count = 5
    watch(gauge, clock, 240)
    assert gauge.forecast().net_per_min == 1.0
    assert gauge.forecast().full_by is None


async def test_the_books_count_what_tier_a_gains() -> None:
    market = await Market().start()
    wishes = market.wishes
    first = [share(number) for number in range(1, 11)]
    wishes.add_tier_b(first[:2])
    chain = wishes.chain_of(first[0])
    wishes.want(wishes.admit(first[:6], chain), 1)
    assert wishes.tier_a_added == 4, "two are Tier B's already"
    wishes.want(wishes.admit(first[4:8], wishes.chain_of(first[5])), 2)
    assert wishes.tier_a_added == 6, "a second owner adds nothing"
    wishes.release(2)
    wishes.want(wishes.admit(first[6:8], wishes.chain_of(first[6])), 3)
    assert wishes.tier_a_added == 8, "what only lingered is taken again"
