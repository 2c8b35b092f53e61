"""Topics parse into one spelling, and everything else is refused with words."""

from __future__ import annotations

from datetime import date

import pytest

from app.core.ids import Exchange
from app.stream.topics import RATES_HZ, Format, Kind, RateInvalid, StreamKey, TopicInvalid, parse_topic, rate_class


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("chain:NIFTY:26FEB2026", "chain:NIFTY:26FEB2026"),
        (" chain:nifty:26-feb-2026 ", "chain:NIFTY:26FEB2026"),
        ("chain:NIFTY 50:2026-02-26", "chain:NIFTY 50:26FEB2026"),
        ("chain:M&M:26FEB2026", "chain:M&M:26FEB2026"),
        ("chain:BAJAJ-AUTO:26FEB2026", "chain:BAJAJ-AUTO:26FEB2026"),
        ("chain:bse:RELIANCE:26FEB2026", "chain:BSE:RELIANCE:26FEB2026"),
        ("quotes:nifty_idx, RELIANCE_EQ,NIFTY_IDX", "quotes:NIFTY_IDX,RELIANCE_EQ"),
        ("quotes:BSE:RELIANCE_EQ", "quotes:BSE:RELIANCE_EQ"),
        ("quotes:ONGC_30MAR2026_238.75PE", "quotes:ONGC_30MAR2026_238.75PE"),
        ("watchlist:1", "watchlist:1"),
        ("depth:BSE:RELIANCE_EQ", "depth:BSE:RELIANCE_EQ"),
        ("status", "status"),
        ("events", "events"),
    ],
)
def test_one_spelling(text: str, name: str) -> None:
    topic = parse_topic(text)
    assert topic.name == name
    assert parse_topic(name) == topic


def test_parts_of_a_chain() -> None:
    topic = parse_topic("chain:BSE:RELIANCE:26FEB2026")
    assert (topic.kind, topic.symbol, topic.expiry, topic.exchange) == (
        Kind.CHAIN, "RELIANCE", date(2026, 2, 26), Exchange.BSE,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (7, "a text"),
        ("", "no topic"),
        ("prices:NIFTY", "they begin with chain"),
        ("status:1", "no topic"),
        ("chain:NIFTY", "chain:SYMBOL:EXPIRY"),
        ("chain::26FEB2026", "chain:SYMBOL:EXPIRY"),
        ("chain:NIFTY:31FEB2026", "day"),
        ("chain:NIFTY:soon", "not an expiry"),
        ("chain:NSX:NIFTY:26FEB2026", "no exchange"),
        ("chain:NSE:A:B:26FEB2026", "chain:SYMBOL:EXPIRY"),
        ("quotes:", "missing"),
        ("quotes:A,,B", "missing"),
        ("quotes:A\x00B", "printable"),
        ("quotes:" + ",".join(f"T{n}" for n in range(1_001)), "at most 1000"),
        ("watchlist:0", "positive"),
        ("watchlist:-1", "positive"),
        ("watchlist:me", "positive"),
        ("watchlist:1; drop", "positive"),
        ("depth:", "missing"),
        ("x" * 40_000, "at most 32768"),
    ],
)
def test_refused_with_words(text: object, words: str) -> None:
    with pytest.raises(TopicInvalid, match=words) as refused:
        parse_topic(text)
    assert len(refused.value.detail) < 300


@pytest.mark.parametrize(
    ("asked", "hz"), [(None, 5), (10, 10), (60, 10), (9.9, 5), (5, 5), (4, 2), (1.5, 1), (0.2, 1), (1, 1)]
)
def test_rate_is_rounded_down_to_a_class(asked: object, hz: int) -> None:
    assert rate_class(asked) == hz


@pytest.mark.parametrize("asked", [0, -1, "5", True, float("nan"), float("inf"), [5]])
def test_rate_that_is_none(asked: object) -> None:
    with pytest.raises(RateInvalid):
        rate_class(asked)


def test_subjects_are_safe_and_distinct() -> None:
    names = ("chain:M&M:26FEB2026", "chain:M-M:26FEB2026", "chain:NIFTY 50:26FEB2026", "quotes:A.B,>*", "status")
    subjects = {StreamKey(name, hz, form).subject for name in names for hz in RATES_HZ for form in Format}
    assert len(subjects) == len(names) * len(RATES_HZ) * len(Format)
    for subject in subjects:
        head, *tokens = subject.split(".")
        assert (head, len(tokens)) == ("ticks", 4)
        assert all(token.replace("_", "").replace("-", "").isalnum() for token in tokens)
