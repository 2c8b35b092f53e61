"""Which contracts the generated exchange lists on a day, and which strikes. Pure functions of the date.

Strikes do not depend on the day, so a contract stays listed, with the same id, until it expires. Expiries are plain
weekdays: the generated exchange knows no holidays, so that ``26MAR2026`` of the user's examples exists.
"""

from __future__ import annotations

from datetime import date, timedelta

from app.sim.underlyings import COMMODITIES, INDICES, TUESDAY, CommoditySpec, IndexSpec

MONTHLIES = 3
QUARTERLIES = 6
_QUARTER_MONTHS = (3, 6, 9, 12)
_STOCK_WING = 28

INDEX_WING = 120
INDEX_FAR_WING = 60


def last_weekday(year: int, month: int, weekday: int) -> date:
    """The last such weekday of a month."""
    last = _month_end(year, month)
    return last - timedelta(days=(last.weekday() - weekday) % 7)


def monthlies(day: date, weekday: int, count: int = MONTHLIES) -> list[date]:
    """The next ``count`` month-end expiries from ``day`` on."""
    return _month_ends(day, weekday, tuple(range(1, 13)), count)


def quarterlies(day: date, weekday: int) -> list[date]:
    """The next month-end expiries of March, June, September and December."""
    return _month_ends(day, weekday, _QUARTER_MONTHS, QUARTERLIES)


def index_expiries(spec: IndexSpec, day: date) -> list[date]:
    """Every expiry of an index's options listed on ``day``."""
    first = day + timedelta(days=(spec.weekday - day.weekday()) % 7)
    weeklies = [first + timedelta(weeks=week) for week in range(spec.weekly)]
    return sorted({*weeklies, *monthlies(day, spec.weekday), *quarterlies(day, spec.weekday)})


def commodity_futures(spec: CommoditySpec, day: date) -> list[date]:
    """Expiries of the futures of a commodity."""
    return _working_days(day, spec.months, spec.day, 0, spec.listed)


def commodity_options(spec: CommoditySpec, day: date) -> list[date]:
    """Expiries of a commodity's options; each has a future that expires on or after it."""
    if not spec.option_expiries:
        return []
    last = commodity_futures(spec, day)[-1]
    months = spec.months if spec.option_day == spec.day else tuple(range(1, 13))
    found = _working_days(day, months, spec.option_day, spec.lead, spec.option_expiries)
    return [expiry for expiry in found if expiry <= last]


def option_expiries(symbol: str, day: date) -> list[date]:
    """Expiries of the options of an index or commodity, or else of a stock on its primary exchange."""
    for index in INDICES:
        if index.symbol == symbol:
            return index_expiries(index, day)
    for commodity in COMMODITIES:
        if commodity.symbol == symbol:
            return commodity_options(commodity, day)
    return monthlies(day, TUESDAY)


def index_strikes(spec: IndexSpec, expiry: date, day: date) -> list[float]:
    """Dense within the near months, twice as far apart beyond. Far listings become dense as they come near."""
    is_near = expiry <= monthlies(day, spec.weekday)[-1]
    if is_near:
        return _grid(spec.price, spec.step, INDEX_WING)
    return _grid(spec.price, spec.step * 2, INDEX_FAR_WING)


def stock_strikes(price: float, step: float, rank: int) -> list[float]:
    """NSE: dense around the price and twice as wide outside; the third month is wide throughout."""
    wide = _grid(price, step * 2, _STOCK_WING)
    return wide if rank >= 2 else sorted({*wide, *_grid(price, step, _STOCK_WING)})


def twin_strikes(price: float, step: float, rank: int) -> list[float]:
    """BSE lists fewer strikes of the same shares."""
    return _grid(price, step, (26, 20, 16)[rank])


def commodity_strikes(spec: CommoditySpec, rank: int) -> list[float]:
    """The near expiries of the big ones are dense, the others five times as wide."""
    if spec.wing > 100 and rank >= 2:
        return _grid(spec.price, spec.step * 5, spec.wing // 5)
    return _grid(spec.price, spec.step, spec.wing)


def _grid(price: float, step: float, wing: int) -> list[float]:
    centre = round(price / step)
    return [round(place * step, 4) for place in range(max(1, centre - wing), centre + wing + 1)]


def _month_ends(day: date, weekday: int, months: tuple[int, ...], count: int) -> list[date]:
    found: list[date] = []
    year, month = day.year, day.month
    while len(found) < count:
        if month in months and (expiry := last_weekday(year, month, weekday)) >= day:
            found.append(expiry)
        year, month = _next_month(year, month)
    return found


def _working_days(day: date, months: tuple[int, ...], near: int, lead: int, count: int) -> list[date]:
    """``lead`` working days before day ``near`` of each of the months, on a working day."""
    found: list[date] = []
    year, month = day.year, day.month
    while len(found) < count:
        if month in months:
            expiry = min(_month_end(year, month), date(year, month, 1) + timedelta(days=near - 1))
            expiry = _working(expiry)
            for _ in range(lead):
                expiry = _working(expiry - timedelta(days=1))
            if expiry >= day:
                found.append(expiry)
        year, month = _next_month(year, month)
    return found


def _working(day: date) -> date:
    """The day itself, or the Friday before a weekend."""
    return day - timedelta(days=max(0, day.weekday() - 4))


def _month_end(year: int, month: int) -> date:
    return date(*_next_month(year, month), 1) - timedelta(days=1)


def _next_month(year: int, month: int) -> tuple[int, int]:
    return (year + 1, 1) if month == 12 else (year, month + 1)
