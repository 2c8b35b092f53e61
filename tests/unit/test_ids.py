"""Expiries, strikes and keys as people write them."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.ids import InstrumentKey, Mode, Segment, format_expiry, format_strike, parse_expiry, parse_key


@pytest.mark.parametrize("text", ["26FEB2026", "26-FEB-2026", "2026-02-26", " 26feb2026 ", "26-Feb-2026"])
def test_every_form_of_an_expiry_is_read(text: str) -> None:
    assert parse_expiry(text) == date(2026, 2, 26)


@pytest.mark.parametrize(
    "text", ["", "26FEB26", "31FEB2026", "26FEV2026", "2026-2-26", "20260226", "٢٦FEB2026", "x" * 1000]
)
def test_anything_else_is_no_expiry(text: str) -> None:
    with pytest.raises(ValueError):
        parse_expiry(text)


@given(st.dates(min_value=date(2000, 1, 1), max_value=date(2099, 12, 31)))
def test_an_expiry_written_is_read_back(day: date) -> None:
    assert parse_expiry(format_expiry(day)) == day


@pytest.mark.parametrize(
    ("strike", "text"), [(2640.0, "2640"), (238.75, "238.75"), (362.5, "362.5"), (84.2525, "84.2525")]
)
def test_strikes_are_never_rounded(strike: float, text: str) -> None:
    assert format_strike(strike) == text


def test_key_reads_back_and_packs_apart() -> None:
    key = InstrumentKey(Segment.NSE_FNO, 47317)
    assert parse_key(str(key)) == key == parse_key("NSE_FNO:47317")
    assert InstrumentKey(Segment.IDX_I, 13).packed != InstrumentKey(Segment.NSE_EQ, 13).packed


@pytest.mark.parametrize("text", ["47317", "NSE_XXX:1", "NSE_FNO:", "NSE_FNO:-1", "NSE_FNO:1.5", ":1"])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_key(text)


def test_unsubscribe_is_one_above_subscribe() -> None:
    assert [mode.unsubscribe_code for mode in Mode] == [16, 18, 22]
