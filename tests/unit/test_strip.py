"""What stands beside a chain's options in its summary."""

from __future__ import annotations

from math import nan

import pytest

from app.stream.strip import basis, buildup


@pytest.mark.parametrize(
    ("change", "oi_change", "told"),
    [
        (1.5, 300.0, "long_buildup"),
        (-1.5, 300.0, "short_buildup"),
        (1.5, -300.0, "short_covering"),
        (-1.5, -300.0, "long_unwinding"),
        (0.0, 300.0, None),
        (1.5, 0.0, None),
        (nan, 300.0, None),
        (1.5, nan, None),
    ],
)
def test_build_up_needs_both_changes(change: float, oi_change: float, told: str | None) -> None:
    assert buildup(change, oi_change) == told


def test_basis_is_known_only_with_both_prices() -> None:
    assert basis(25_061.4, 25_003.15) == 58.25
    assert basis(None, 25_003.15) is None
    assert basis(25_061.4, None) is None
