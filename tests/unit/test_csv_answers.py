"""Cells of a spreadsheet that nobody meant as formulas."""

from __future__ import annotations

import pytest

from app.rest.csv_answers import csv_bytes


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@sum", "\tx", "\rx"])
def test_a_text_that_looks_like_a_formula_is_quoted(text: str) -> None:
    assert csv_bytes([[text]]).decode().strip('"').startswith("'")


def test_numbers_and_unknown_stay_what_they_are() -> None:
    assert csv_bytes([["M&M_EQ", -1.5, None, 'a "b", c']]) == b'M&M_EQ,-1.5,,"a ""b"", c"\r\n'
