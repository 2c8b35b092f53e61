"""The generated instrument master, in Dhan's detailed layout, with the oddities of a real one (protocol notes, 4, 13).

Run as a program: ``python -m app.sim.master PATH DAY SEED``. The same day and seed give the same bytes. A contract's
id follows from what it is, so it keeps it from day to day; ids repeat across segments, as they do at the exchange.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

from app.core.ids import MONTHS, Exchange, format_strike
from app.sim.listings import (
    commodity_futures,
    commodity_options,
    commodity_strikes,
    index_expiries,
    index_strikes,
    last_weekday,
    monthlies,
    stock_strikes,
    twin_strikes,
)
from app.sim.underlyings import (
    COMMODITIES,
    CURRENCIES,
    FRIDAY,
    INDEX_ROWS,
    INDICES,
    THURSDAY,
    TUESDAY,
    StockSpec,
    stocks,
)

ROWS = 289_000

HEADER = (
    "EXCH_ID,SEGMENT,SECURITY_ID,ISIN,INSTRUMENT,UNDERLYING_SECURITY_ID,UNDERLYING_SYMBOL,SYMBOL_NAME,DISPLAY_NAME,"
    "INSTRUMENT_TYPE,SERIES,LOT_SIZE,SM_EXPIRY_DATE,STRIKE_PRICE,OPTION_TYPE,TICK_SIZE,EXPIRY_FLAG,BRACKET_FLAG,"
    "COVER_FLAG,ASM_GSM_FLAG,ASM_GSM_CATEGORY,BUY_SELL_INDICATOR,BUY_CO_MIN_MARGIN_PER,BUY_CO_SL_RANGE_MAX_PERC,"
    "BUY_CO_SL_RANGE_MIN_PERC,BUY_BO_MIN_MARGIN_PER,BUY_BO_PROFIT_RANGE_MAX_PERC,BUY_BO_PROFIT_RANGE_MIN_PERC,"
    "MTF_LEVERAGE,SM_UPPER_LIMIT,SM_LOWER_LIMIT,SM_FREEZE_QTY,"
)
_MARGINS = "N,N,N,NA,A,0,0,0,0,0,0,0"
_NO_LIMITS = "0.0000,0.0000,0"
_BAND = 0.1  # of a share's reference price, each side

_OFFSET_GRIDS = frozenset({"ONGC", "COALINDIA", "ITC", "NTPC", "BPCL", "BANKBARODA", "OIL", "GAIL", "PETRONET", "IOC"})
"""Shares whose strikes were moved by a dividend: a second grid lies between the first, some of it with one side."""

_TEST_FUTURES, _TEST_SHARES = 18, 22
_NSE_FILLERS, _BSE_FILLERS = 9_000, 13_100
_STATES = ("AP", "AS", "BR", "CG", "GA", "GJ", "HR", "HP", "JH", "KA", "KL", "MP", "MH", "OD", "PB", "RJ", "TN", "UP")
_NO_FEED_ROWS = 42_000
_WEEKS, _PLACES = 512, 1024
_FUTURE_PLACE = _PLACES - 1


def write_master(path: Path, day: date, seed: int) -> int:
    """Write the master of ``day``; return its rows. The file appears whole or not at all."""
    lines = list(master_lines(day, seed))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text("\n".join((HEADER, *lines, "")), encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return len(lines)


def master_lines(day: date, seed: int) -> Iterator[str]:
    """The data rows of a day, filled up to :data:`ROWS` with currency contracts that have long expired."""
    count = 0
    for part in (
        _index_rows(),
        _cash_rows(seed),
        _index_derivatives(day),
        _stock_derivatives(day, seed),
        _commodities(day),
        _no_feed_commodities(day),
        _test_scrips(),
        _live_currencies(day),
    ):
        for line in part:
            count += 1
            yield line
    expired = _expired_currencies(day)
    for _ in range(ROWS - count):
        yield next(expired)


def contract_id(underlying: int, expiry: date, place: int, side: int) -> int:
    """An id below 2**28 from what a contract is: number of the underlying, week, place of the strike, call or put."""
    assert 0 <= place < _PLACES, "two contracts would share an id"
    week = expiry.toordinal() // 7 % _WEEKS
    return ((underlying * _WEEKS + week) * _PLACES + place) * 2 + side + 1


def _row(
    exchange: str,
    segment: str,
    security_id: int,
    instrument: str,
    underlying: int | str,
    symbol: str,
    name: str,
    display: str,
    kind: str,
    lot: float,
    expiry: str,
    strike: str,
    option: str,
    tick: str,
    flag: str,
    series: str = "NA",
    isin: str = "NA",
    limits: str = _NO_LIMITS,
) -> str:
    return (
        f"{exchange},{segment},{security_id},{isin},{instrument},{underlying},{symbol},{name},{display},{kind},"
        f"{series},{lot:.1f},{expiry},{strike},{option},{tick},{flag},{_MARGINS},{limits},"
    )


def _option_pair(
    exchange: str,
    segment: str,
    number: int,
    underlying: int,
    instrument: str,
    symbol: str,
    expiry: date,
    strike: float,
    place: int,
    lot: float,
    tick_paise: float,
    flag: str,
    sides: tuple[int, ...] = (0, 1),
) -> Iterator[str]:
    month, text = MONTHS[expiry.month - 1], format_strike(strike)
    iso, exact, tick = expiry.isoformat(), f"{strike:.5f}", f"{tick_paise:.4f}"
    for side in sides:
        option = ("CE", "PE")[side]
        display = f"{symbol} {expiry.day:02d} {month} {text} {('CALL', 'PUT')[side]}"
        yield _row(
            exchange,
            segment,
            contract_id(number, expiry, place, side),
            instrument,
            underlying,
            symbol,
            _symbol_name(exchange, symbol, expiry, f"{text}-{option}", "OPT"),
            display,
            "OP" if exchange == "NSE" else instrument,
            lot,
            iso,
            exact,
            option,
            tick,
            flag,
            "2" if exchange == "MCX" else "NA",
        )


def _future(
    exchange: str,
    segment: str,
    number: int,
    underlying: int,
    instrument: str,
    symbol: str,
    expiry: date,
    lot: float,
    tick_paise: float,
    flag: str = "M",
) -> str:
    is_nse = exchange == "NSE"
    return _row(
        exchange,
        segment,
        contract_id(number, expiry, _FUTURE_PLACE, 0),
        instrument,
        underlying,
        symbol,
        _symbol_name(exchange, symbol, expiry, "FUT", "FUT"),
        f"{symbol} {MONTHS[expiry.month - 1]} {'' if is_nse or exchange == 'MCX' else ' '}FUT",
        "FUT" if is_nse else instrument,
        lot,
        expiry.isoformat(),
        "-0.01000" if is_nse else "0.00000",
        "" if exchange == "BSE" else "XX",
        f"{tick_paise:.4f}",
        flag,
        "2" if exchange == "MCX" else "NA",
    )


def _symbol_name(exchange: str, symbol: str, expiry: date, tail: str, kind: str) -> str:
    """NSE's lacks the day and so repeats; BSE's is a mnemonic; MCX's is the commodity."""
    if exchange == "NSE":
        return f"{symbol}-{MONTHS[expiry.month - 1].title()}{expiry.year}-{tail}"
    if exchange == "BSE":
        return f"{ {'SENSEX': 'BSX', 'BANKEX': 'BKX', 'SENSEX50': 'SX50'}.get(symbol, symbol[:4]) }{kind}"
    return symbol


def _index_rows() -> Iterator[str]:
    for exchange, number, symbol, display, tick in INDEX_ROWS:
        yield _row(
            exchange,
            "I",
            number,
            "INDEX",
            number,
            symbol,
            symbol,
            display,
            "INDEX",
            1,
            "0001-01-01",
            "",
            "XX",
            tick,
            "N",
        )


def _cash_rows(seed: int) -> Iterator[str]:
    for stock in stocks():
        yield _share("NSE", stock, stock.nse_id, "EQ", stock.tick_paise)
        yield _share("BSE", stock, stock.bse_id, "A", min(stock.tick_paise, 5))
    # A debenture under the symbol of the share, as on the real exchange.
    yield _equity("NSE", 1901, "CHOLAFIN", "CIFCL-7.5%-30092026-NCD", "DEB", "D1", 1, 1)
    for exchange, count, first in (("NSE", _NSE_FILLERS, 100_000), ("BSE", _BSE_FILLERS, 800_000)):
        # Names differ by exchange and only the seed moves them: a line keeps its id from day to day.
        rng = random.Random(f"{seed}:{exchange}")  # noqa: S311 - names of made-up loans, not secrets
        seen: set[str] = set()
        while len(seen) < count:
            rate, state, year = rng.randrange(500, 999), rng.choice(_STATES), rng.randrange(27, 60)
            symbol = f"{rate}{state}{year}{'' if exchange == 'NSE' else 'B'}"
            if symbol in seen:
                continue
            seen.add(symbol)
            display = f"SDL {state} {rate / 100:.2f}% 20{year}"
            yield _equity(
                exchange, first + len(seen), symbol, display, "DBT", "SG" if exchange == "NSE" else "F", 100, 1
            )


def _share(exchange: str, stock: StockSpec, number: int, series: str, tick_paise: float) -> str:
    limits = f"{stock.price * (1 + _BAND):.4f},{stock.price * (1 - _BAND):.4f},0"
    return _equity(exchange, number, stock.symbol, stock.name, "ES", series, 1, tick_paise, stock.name.upper(), limits)


def _equity(
    exchange: str,
    number: int,
    symbol: str,
    display: str,
    kind: str,
    series: str,
    lot: float,
    tick_paise: float,
    name: str = "",
    limits: str = _NO_LIMITS,
) -> str:
    tick = f"{tick_paise:.4f}"
    return _row(
        exchange, "E", number, "EQUITY", "", symbol, name or display, display, kind, lot, "", "", "", tick, "NA",
        series, limits=limits,
    )  # fmt: skip


def _index_derivatives(day: date) -> Iterator[str]:
    for number, spec in enumerate(INDICES):
        exchange = spec.exchange.value
        near = monthlies(day, spec.weekday)
        for expiry in near:
            yield _future(
                exchange, "D", number, spec.exchange_id, "FUTIDX", spec.symbol, expiry, spec.lot, spec.future_tick_paise
            )
        for expiry in index_expiries(spec, day):
            is_month_end = expiry == last_weekday(expiry.year, expiry.month, spec.weekday)
            for strike in index_strikes(spec, expiry, day):
                place = round((strike - spec.price) / spec.step) + 400
                # One expiry under two flags, as BSE has it: flags are not to be relied on.
                flag = ("Q" if place % 3 else "M") if exchange == Exchange.BSE else "M"
                yield from _option_pair(
                    exchange,
                    "D",
                    number,
                    spec.exchange_id,
                    "OPTIDX",
                    spec.symbol,
                    expiry,
                    strike,
                    place,
                    spec.lot,
                    5,
                    flag if is_month_end else "W",
                )


def _stock_derivatives(day: date, seed: int) -> Iterator[str]:
    first = len(INDICES)
    for place, stock in enumerate(stocks()):
        for exchange, weekday, underlying in (
            ("NSE", TUESDAY, stock.nse_id),
            ("BSE", THURSDAY, stock.bse_id),
        ):
            for rank, expiry in enumerate(monthlies(day, weekday)):
                tick = stock.tick_paise if exchange == "NSE" else 5
                yield _future(
                    exchange, "D", first + place, underlying, "FUTSTK", stock.symbol, expiry, stock.lot, max(tick, 5)
                )
                yield from _stock_options(exchange, first + place, underlying, stock, expiry, rank, seed)


def _stock_options(
    exchange: str, number: int, underlying: int, stock: StockSpec, expiry: date, rank: int, seed: int
) -> Iterator[str]:
    lists = stock_strikes if exchange == "NSE" else twin_strikes
    strikes: dict[float, tuple[int, ...]] = dict.fromkeys(lists(stock.price, stock.step, rank), (0, 1))
    unit = stock.step / 2
    if stock.symbol in _OFFSET_GRIDS and exchange == "NSE" and rank == 0:
        rng = random.Random(f"{seed}:{stock.symbol}")  # noqa: S311 - which sides are listed, not secrets
        for strike in list(strikes)[10:-10]:
            strikes.setdefault(round(strike - unit, 4), rng.choice(((0, 1), (0, 1), (0,), (1,))))
    for strike, sides in strikes.items():
        place = round((strike - stock.price) / unit) + 500
        yield from _option_pair(
            exchange,
            "D",
            number,
            underlying,
            "OPTSTK",
            stock.symbol,
            expiry,
            strike,
            place,
            stock.lot,
            5,
            "M",
            sides,
        )


def _commodities(day: date) -> Iterator[str]:
    for number, spec in enumerate(COMMODITIES):
        for expiry in commodity_futures(spec, day):
            yield _future("MCX", "M", number, spec.product, "FUTCOM", spec.symbol, expiry, 1, spec.future_tick_paise)
        for rank, expiry in enumerate(commodity_options(spec, day)):
            for strike in commodity_strikes(spec, rank):
                place = round((strike - spec.price) / spec.step) + 511
                yield from _option_pair(
                    "MCX",
                    "M",
                    number,
                    spec.product,
                    "OPTFUT",
                    spec.symbol,
                    expiry,
                    strike,
                    place,
                    1,
                    spec.option_tick_paise,
                    "M",
                )


def _no_feed_commodities(day: date) -> Iterator[str]:
    """NSE's own commodity options: no feed code exists for them."""
    written = 0
    for number, spec in enumerate(COMMODITIES):
        for expiry in monthlies(day, FRIDAY, 18):
            for place in range(-400, 401):
                strike = spec.price + place * spec.step
                if strike <= 0 or written >= _NO_FEED_ROWS:
                    continue
                written += 2
                yield from _option_pair(
                    "NSE", "M", number, number + 1, "OPTFUT", spec.symbol, expiry, strike, place + 500, 1, 50, "M"
                )


def _test_scrips() -> Iterator[str]:
    for place in range(1, _TEST_FUTURES + 1):
        symbol, expiry = f"{place:02d}1NSETEST", date(2036, 11, 27)
        yield _future("NSE", "D", 255, 14_747 + place, "FUTSTK", symbol, expiry, 50, 5, "W").replace(
            f",{contract_id(255, expiry, _FUTURE_PLACE, 0)},", f",{36_000 + place},", 1
        )
    for place in range(1, _TEST_SHARES + 1):
        symbol = f"{place:02d}1NSETEST"
        yield _equity("NSE", 14_700 + place, symbol, symbol, "Other", "EQ", 1, 1)


def _live_currencies(day: date) -> Iterator[str]:
    for exchange in ("NSE", "BSE"):
        for number, (symbol, price, step, tick, nse, bse) in enumerate(CURRENCIES):
            underlying = nse if exchange == "NSE" else bse
            for expiry in monthlies(day, FRIDAY):
                yield _future(exchange, "C", number, underlying, "FUTCUR", symbol, expiry, 1, tick)
                yield from _currency_options(exchange, number, underlying, symbol, price, step, tick, expiry)


def _expired_currencies(day: date) -> Iterator[str]:
    """Rows that nobody has swept out: weekly expiries, going back for years."""
    expiry = day - timedelta(days=(day.weekday() - FRIDAY) % 7 or 7)
    while True:
        for number, (symbol, price, step, tick, nse, bse) in enumerate(CURRENCIES):
            yield from _currency_options("BSE", number, bse, symbol, price, step, tick, expiry)
            yield from _currency_options("NSE", number, nse, symbol, price, step, tick, expiry)
        expiry -= timedelta(weeks=1)


def _currency_options(
    exchange: str, number: int, underlying: int, symbol: str, price: float, step: float, tick: float, expiry: date
) -> Iterator[str]:
    for place in range(-30, 31):
        strike = price + place * step
        yield from _option_pair(
            exchange, "C", number, underlying, "OPTCUR", symbol, expiry, strike, place + 500, 1, tick, "W"
        )


def main(arguments: list[str]) -> int:
    """The program: 0, or 2 with the reason on stderr."""
    try:
        path, day, seed = arguments
        write_master(Path(path), date.fromisoformat(day), int(seed))
    except (ValueError, OSError) as error:
        sys.stderr.write(f"usage: app.sim.master PATH DAY SEED: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
