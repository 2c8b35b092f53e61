"""Live rows, summary and coverage of a chain for endpoint 4, by the stream's own classes, so that both agree."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan

from app.core.ids import OptionType
from app.core.instruments import Instrument
from app.market.atm_engine import CachedWindow, ChainId, nearest
from app.market.instrument_master.registry import InstrumentRegistry
from app.rest import limits
from app.stream.desk import Desk
from app.stream.face import Face, Rows
from app.stream.frames import whole_rows
from app.stream.strip import basis


@dataclass(frozen=True, slots=True)
class _Look:
    """One window laid out: the rows of its legs."""

    window: CachedWindow
    legs: tuple[Instrument, ...]
    rows: Rows


class DeskQuotes:
    """Implements ``services.ChainQuotes``. Looking subscribes nothing.

    ``desk`` and ``face`` are its own. What was lately looked at stays laid out there; its values are read off the board
    and worked out anew by each look, and cost nothing in between.
    """

    def __init__(self, desk: Desk, face: Face, registry: InstrumentRegistry) -> None:
        self._desk = desk
        self._face = face
        self._registry = registry
        self._looks: OrderedDict[ChainId, _Look] = OrderedDict()  # the least recent first

    def __call__(
        self, window: CachedWindow, underlying_ltp: float | None, underlying_source: str | None
    ) -> Mapping[str, object]:
        """``rows`` of the window's legs; the underlying that the caller is told stands in the summary too."""
        look = self._laid_out(window)
        chain = self._desk.look(window.chain, look.rows)
        told: dict[str, object] = {"underlying_ltp": underlying_ltp, "underlying_source": underlying_source}
        future_ltp = chain.summary["future_ltp"]
        assert future_ltp is None or isinstance(future_ltp, float)
        told["basis"] = basis(future_ltp, underlying_ltp)
        if underlying_source == "request" and underlying_ltp is not None:
            told.update(self._at_the_money(look, underlying_ltp))
        return {
            "rows": whole_rows([each.token for each in look.legs], self._face.values[look.rows]),
            "summary": {**chain.summary, **told},
            "coverage": chain.coverage,
        }

    def _at_the_money(self, look: _Look, spot: float) -> dict[str, object]:
        """What stands at the money of a price that the caller gave: the chain's summary goes by the feed's."""
        strikes = look.window.ladder.strikes
        strike = strikes[nearest(strikes, spot)]
        rows = {
            leg.option_type: row for leg, row in zip(look.legs, look.rows.tolist(), strict=True) if leg.strike == strike
        }
        call, put = (rows.get(side, -1) for side in (OptionType.CE, OptionType.PE))
        straddle = round(self._face.cell(call, "ltp") + self._face.cell(put, "ltp"), 4)
        ivs = [iv for row in (call, put) if not isnan(iv := self._face.cell(row, "iv"))]
        return {
            "atm_strike": strike,
            "straddle": None if isnan(straddle) else straddle,
            "atm_iv": next(iter(ivs), None),
        }

    def _laid_out(self, window: CachedWindow) -> _Look:
        held = self._looks.get(window.chain)
        if held is not None and held.window is window:
            self._looks.move_to_end(window.chain)
            return held
        if held is None:
            self._desk.acquire(window.chain)
        legs = tuple(each for each in self._registry.get_all(window.keys) if each is not None)
        look = self._looks[window.chain] = _Look(window, legs, self._face.acquire(legs))
        self._looks.move_to_end(window.chain)
        if held is not None:
            self._face.release(held.rows)
        elif len(self._looks) > limits.LOOKS_KEPT:
            chain, oldest = self._looks.popitem(last=False)
            self._face.release(oldest.rows)
            self._desk.release(chain)
        return look
