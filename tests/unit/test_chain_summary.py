"""What a chain says as a whole, and what it does not say when it does not know."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from app.analytics.black76 import price
from app.analytics.chain import ChainInput, Side, Summary, analyse

NOW_MS = 1_771_993_800_000
DAYS = 20
YEARS = DAYS / 365
STRIKES = np.arange(24_000.0, 26_050.0, 50.0)
RATE = 0.065
FORWARD = 25_060.0
SMILE = 0.12 + 2.0 * np.log(STRIKES / FORWARD) ** 2
UNKNOWN = np.full(len(STRIKES), np.nan)
NEW = np.zeros(len(STRIKES), dtype=np.bool_)


def side(is_call: bool) -> Side:
    value = np.round(price(FORWARD, STRIKES, YEARS, RATE, SMILE, is_call), 2)
    oi = np.arange(1.0, len(STRIKES) + 1) * (100.0 if is_call else 150.0)
    return Side(ltp=value, bid=value - 0.01, ask=value + 0.01, oi=oi, volume=oi * 2, is_old=NEW)


def chain(**changes: object) -> ChainInput:
    whole = ChainInput(STRIKES, side(True), side(False), 24_990.0, np.nan, NOW_MS + DAYS * 86_400_000)
    return replace(whole, **changes)  # type: ignore[arg-type]


def summary_of(one: ChainInput) -> Summary:
    return analyse([one], NOW_MS, RATE)[0].summary


def silent(**known: object) -> Side:
    return replace(Side(UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, NEW), **known)  # type: ignore[arg-type]


def test_volatility_of_both_legs_is_the_smile() -> None:
    (result,) = analyse([chain()], NOW_MS, RATE)
    assert np.allclose(result.calls[:, 0], 100 * SMILE, atol=0.02)
    assert np.allclose(result.puts[:, 0], result.calls[:, 0], atol=1e-9)
    assert np.allclose(result.calls[:, 1] - result.puts[:, 1], np.exp(-RATE * YEARS), atol=2e-4)
    assert (result.calls[:, 3] < 0).all()
    assert (result.calls[:, 4] > 0).all()


def test_summary_of_a_whole_chain() -> None:
    (result,) = analyse([chain()], NOW_MS, RATE)
    told = result.summary
    atm = int(np.flatnonzero(STRIKES == 25_000.0)[0])
    assert told.atm_strike == 25_000.0
    assert told.forward == pytest.approx(FORWARD, abs=0.5)
    assert (told.pcr, told.pcr_volume) == (1.5, 1.5)
    assert told.straddle == pytest.approx(side(True).ltp[atm] + side(False).ltp[atm])
    assert told.atm_iv == result.calls[atm, 0]
    assert (told.total_ce_oi, told.total_pe_oi) == (86_100, 129_150)


def test_nothing_known_says_nothing() -> None:
    (result,) = analyse([chain(calls=silent(), puts=silent(), spot=np.nan)], NOW_MS)
    assert np.isnan(result.calls).all()
    assert np.isnan(result.puts).all()
    assert set(vars_of(result.summary)) == {None}


def vars_of(summary: object) -> list[object]:
    return [getattr(summary, name) for name in summary.__slots__]  # type: ignore[attr-defined]


def test_ask_without_a_bid_has_no_volatility() -> None:
    calls = side(True)
    bid = calls.bid.copy()
    bid[-1] = np.nan
    (result,) = analyse([chain(calls=replace(calls, bid=bid))], NOW_MS, RATE)
    assert np.isnan(result.calls[-1]).all()
    assert not np.isnan(result.calls[:-1, 0]).any()


def test_no_book_at_all_falls_back_to_the_last_price() -> None:
    sides = {name: replace(side(name == "calls"), bid=UNKNOWN, ask=UNKNOWN) for name in ("calls", "puts")}
    (result,) = analyse([chain(**sides)], NOW_MS, RATE)
    assert np.allclose(result.calls[:, 0], 100 * SMILE, atol=0.02)


def test_expired_chain_has_no_volatility_but_still_its_open_interest() -> None:
    (result,) = analyse([chain(expiry_ms=NOW_MS)], NOW_MS)
    assert np.isnan(result.calls).all()
    assert result.summary.total_ce_oi == 86_100


def test_forward_comes_from_parity_then_future_then_spot() -> None:
    growth = np.exp(RATE * YEARS)
    assert summary_of(chain()).forward == pytest.approx(FORWARD, abs=0.5)
    assert summary_of(chain(puts=silent(), future=25_055.0)).forward == 25_055.0
    assert summary_of(chain(puts=silent())).forward == round(24_990.0 * growth, 2)
    assert summary_of(chain(puts=silent(), spot=np.nan)).forward is None


@pytest.mark.parametrize("known", [1, 2, 4, 5, 8])
def test_parity_takes_the_median_of_the_strikes_near_the_money(known: int) -> None:
    """Of those that have both prices; without any other price, of those where call and put are closest."""
    near = np.argsort(np.abs(STRIKES - 25_000.0), kind="stable")[:known]
    gaps = np.full(len(STRIKES), np.nan)
    gaps[near] = 25_000.0 - STRIKES[near] + np.arange(known) ** 2
    puts = np.where(np.isnan(gaps), np.nan, 2_000.0)
    traded = np.ones(len(STRIKES))
    sides = {"calls": silent(ltp=puts + gaps, volume=traded), "puts": silent(ltp=puts, volume=traded)}
    growth = np.exp(RATE * YEARS)
    implied = STRIKES[near][:5] + growth * gaps[near][:5]
    assert summary_of(chain(**sides, spot=24_999.0 / growth)).forward == round(float(np.median(implied)), 2)


def moved_on(*, is_call: bool, is_old: np.ndarray) -> Side:
    """The forward was 400 lower when the connection of those legs was lost."""
    now = side(is_call)
    before = np.round(price(FORWARD - 400.0, STRIKES, YEARS, RATE, SMILE, is_call), 2)
    ltp = np.where(is_old, before, now.ltp)
    return replace(now, ltp=ltp, bid=ltp - 0.01, ask=ltp + 0.01, is_old=is_old)


def test_old_prices_of_some_legs_move_no_forward_and_no_volatility_of_others() -> None:
    lost = np.abs(STRIKES - 25_000.0) <= 200.0
    lost_calls, lost_puts = lost & (STRIKES >= 25_050.0), lost & (STRIKES < 25_050.0)
    one = chain(calls=moved_on(is_call=True, is_old=lost_calls), puts=moved_on(is_call=False, is_old=lost_puts))
    (result,) = analyse([one], NOW_MS, RATE)
    assert result.summary.forward == pytest.approx(FORWARD, abs=0.5)
    assert np.allclose(result.calls[~lost_calls, 0], 100 * SMILE[~lost_calls], atol=0.05)
    assert np.allclose(result.puts[~lost_puts, 0], 100 * SMILE[~lost_puts], atol=0.05)


def test_where_all_prices_are_old_they_are_told_as_they_were() -> None:
    old = np.ones(len(STRIKES), dtype=np.bool_)
    calls, puts = (replace(side(is_call), is_old=old) for is_call in (True, False))
    assert summary_of(chain(calls=calls, puts=puts)) == summary_of(chain())


def test_parity_far_from_spot_is_not_believed() -> None:
    assert summary_of(chain(future=12_000.0, spot=12_000.0)).forward == 12_000.0


def test_parity_alone_is_enough() -> None:
    assert summary_of(chain(spot=np.nan)).forward == pytest.approx(FORWARD, abs=0.5)


def test_max_pain_is_where_buyers_are_paid_the_least() -> None:
    rng = np.random.default_rng(7)
    for _ in range(20):
        ce, pe = rng.integers(0, 1_000, (2, len(STRIKES))).astype(float)
        paid = [
            (ce * np.maximum(0, at - STRIKES)).sum() + (pe * np.maximum(0, STRIKES - at)).sum() for at in STRIKES
        ]  # fmt: skip
        found = summary_of(chain(calls=silent(oi=ce), puts=silent(oi=pe))).max_pain
        assert found is not None
        assert paid[int(np.flatnonzero(found == STRIKES)[0])] == min(paid)


def test_a_last_price_of_the_day_before_has_no_volatility() -> None:
    """Its day's volume is not known: nothing of it has come in this session."""
    today = {"ltp": side(True).ltp, "volume": side(True).volume}
    assert not np.isnan(analyse([chain(calls=silent(**today))], NOW_MS, RATE)[0].calls[:, 0]).any()
    before = silent(ltp=today["ltp"])
    assert np.isnan(analyse([chain(calls=before)], NOW_MS, RATE)[0].calls).all()


def test_no_open_interest_has_no_pain_and_no_ratio() -> None:
    zeros = np.zeros(len(STRIKES))
    (result,) = analyse([chain(calls=silent(oi=zeros), puts=silent(oi=zeros))], NOW_MS)
    told = result.summary
    assert (told.max_pain, told.pcr, told.total_ce_oi, told.total_pe_oi) == (None, None, 0, 0)


def test_chains_do_not_touch_each_other() -> None:
    other = chain(strikes=STRIKES[:5], calls=cut(side(True)), puts=cut(side(False)), spot=24_100.0)
    together = analyse([chain(), other, chain(calls=silent(), puts=silent())], NOW_MS, RATE)
    alone = analyse([other], NOW_MS, RATE)[0]
    assert np.array_equal(together[1].calls, alone.calls, equal_nan=True)
    assert together[1].summary == alone.summary
    assert together[1].calls.shape == (5, 5)


def test_many_chains_at_once_are_each_as_alone() -> None:
    rng = np.random.default_rng(3)
    parts = {"calls": silent(), "puts": silent(), "spot": np.nan, "future": 25_100.0, "expiry_ms": NOW_MS + 3_600_000}
    some = [chain(**{name: parts[name] for name in parts if rng.random() < 0.3}) for _ in range(40)]
    some += [chain(calls=replace(side(True), oi=rng.integers(0, 50, len(STRIKES)).astype(float))) for _ in range(5)]
    for together, one in zip(analyse(some, NOW_MS, RATE), some, strict=True):
        (alone,) = analyse([one], NOW_MS, RATE)
        assert np.array_equal(together.calls, alone.calls, equal_nan=True)
        assert np.array_equal(together.puts, alone.puts, equal_nan=True)
        assert together.summary == alone.summary


def cut(whole: Side) -> Side:
    return Side(*(getattr(whole, name)[:5] for name in whole.__slots__))


def test_no_chains() -> None:
    assert analyse([], NOW_MS) == []
