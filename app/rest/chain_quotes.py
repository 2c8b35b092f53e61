"""Live rows, summary and coverage of a chain for endpoint 4, by the stream's own classes, so that both agree."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from app.market.atm_engine import CachedWindow, ChainId
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
    tokens: tuple[str, ...]
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
        return {
            "rows": whole_rows(look.tokens, self._face.values[look.rows]),
            "summary": {**chain.summary, **told},
            "coverage": chain.coverage,
        }

    def _laid_out(self, window: CachedWindow) -> _Look:
        held = self._looks.get(window.chain)
        if held is not None and held.window is window:
            self._looks.move_to_end(window.chain)
            return held
        if held is None:
            self._desk.acquire(window.chain)
        legs = [each for each in self._registry.get_all(window.keys) if each is not None]
        look = self._looks[window.chain] = _Look(window, tuple(each.token for each in legs), self._face.acquire(legs))
        self._looks.move_to_end(window.chain)
        if held is not None:
            self._face.release(held.rows)
        elif len(self._looks) > limits.LOOKS_KEPT:
            chain, oldest = self._looks.popitem(last=False)
            self._face.release(oldest.rows)
            self._desk.release(chain)
        return look
