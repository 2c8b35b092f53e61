"""The broker's option chain: what is read from it, and what is refused, in every shape it is known to come in."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.ids import OptionType
from app.dhan.option_chain import ChainRefused, read_previous_oi


def answer(strikes: Any) -> bytes:
    return orjson.dumps({"data": {"last_price": 24_964.25, "oc": strikes}, "status": "success"})


def test_the_previous_oi_of_each_side_that_tells_one() -> None:
    told = read_previous_oi(
        200,
        answer(
            {
                "25650.000000": {"ce": {"previous_oi": 402_220, "oi": 3}, "pe": {"previous_oi": 0}},
                "238.750000": {"ce": {"oi": 5}},
                "240.000000": {"pe": {"previous_oi": None}, "ce": None},
            }
        ),
    )
    assert told == {(25_650.0, OptionType.CE): 402_220, (25_650.0, OptionType.PE): 0}


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (400, {"data": {"811": "Invalid Expiry Date"}, "status": "failed"}, "HTTP 400, 811"),
        (200, {"data": {"814": "Invalid Request"}, "status": "failed"}, "HTTP 200, 814"),
        (401, {"errorType": "x", "errorCode": "DH-901", "errorMessage": "token ey12 is bad"}, "HTTP 401, DH-901"),
        (429, {"errorCode": "DH-904"}, "HTTP 429, DH-904"),
        (200, {"status": "error", "message": "secret"}, "HTTP 200"),
        (200, {"status": "success", "data": []}, "no chain in the answer"),
        (200, [], "HTTP 200"),
    ],
)
def test_an_error_in_any_shape_is_told_by_its_code_alone(status: int, body: Any, said: str) -> None:
    with pytest.raises(ChainRefused) as refused:
        read_previous_oi(status, orjson.dumps(body))
    assert str(refused.value) == said


@given(
    st.one_of(
        st.binary(max_size=64),
        st.recursive(
            st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=8),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        ).map(lambda strikes: answer({"25650.0": strikes})),
        st.dictionaries(st.text(max_size=8), st.just({"ce": {"previous_oi": 1}})).map(answer),
    )
)
def test_whatever_comes_is_figures_or_a_refusal(body: bytes) -> None:
    try:
        told = read_previous_oi(200, body)
    except ChainRefused:
        return
    assert all(0 <= oi < 2**32 for oi in told.values())
