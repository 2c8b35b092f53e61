"""What holds of every window, whatever the ladder and the path of spot."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.market.atm_engine import follow, nearest, window_at

ladders = st.lists(st.integers(1, 400_000), min_size=1, max_size=200, unique=True).map(
    lambda cents: tuple(sorted(cent / 4 for cent in cents))
)
spots = st.integers(1, 500_000).map(lambda cents: cents / 4)


@given(ladders, spots)
def test_nearest_is_nearest_and_ties_go_up(strikes: tuple[float, ...], spot: float) -> None:
    best = min(abs(strike - spot) for strike in strikes)
    assert strikes[nearest(strikes, spot)] == max(strike for strike in strikes if abs(strike - spot) == best)


@given(ladders, spots, st.integers(1, 120))
def test_window_is_full_and_holds_atm_in_its_middle(strikes: tuple[float, ...], spot: float, count: int) -> None:
    window = window_at(strikes, spot, count)
    assert window.hi - window.lo == min(count, len(strikes))
    assert window.lo <= window.atm < window.hi
    off_centre = window.atm - window.lo - count // 2
    if window.lo > 0 and window.hi < len(strikes):
        assert off_centre == 0


@given(st.integers(1, 50), st.integers(20, 200), st.floats(10.0, 9_000.0))
def test_regular_ladder_rounds_half_up(step: int, size: int, spot: float) -> None:
    strikes = tuple(float(step * place) for place in range(1, size + 1))
    spot = round(spot, 2)
    inside = max(float(step), min(spot, float(step * size)))
    expected = int(inside / step + 0.5 + 1e-9) * step
    assert strikes[nearest(strikes, inside)] == expected


@given(spots, st.lists(st.floats(-0.499, 0.499), min_size=1, max_size=60), st.integers(1, 60))
def test_trembling_spot_never_moves_the_window(middle: float, path: list[float], count: int) -> None:
    step = 20.0
    strikes = tuple(step * place for place in range(1, 7_000))
    window = window_at(strikes, middle, count)
    moves = 0
    for wobble in path:
        moved = follow(window, strikes, max(0.05, middle + wobble * step), count, step)
        if moved is not None:
            window, moves = moved, moves + 1
    assert moves == 0


@given(st.lists(spots, min_size=2, max_size=60), st.integers(1, 60))
def test_followed_window_is_never_a_step_behind(path: list[float], count: int) -> None:
    step = 20.0
    strikes = tuple(step * place for place in range(1, 7_000))
    window = window_at(strikes, path[0], count)
    for spot in path:
        window = follow(window, strikes, spot, count, step) or window
        assert abs(window.centre - spot) < step
        assert follow(window, strikes, spot, count, step) is None
