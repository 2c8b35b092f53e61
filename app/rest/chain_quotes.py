"""Live rows, summary and coverage of a chain for endpoint 4: read off the stream's own tables, so that both agree."""

from __future__ import annotations

from collections.abc import Mapping

from app.core.instruments import Instrument
from app.market.atm_engine import CachedWindow
from app.market.instrument_master.registry import InstrumentRegistry
from app.stream.desk import Desk
from app.stream.face import Face
from app.stream.frames import whole_rows
from app.stream.strip import basis


class DeskQuotes:
    """Implements ``services.ChainQuotes``. Looking subscribes nothing and holds nothing afterwards."""

    def __init__(self, desk: Desk, face: Face, registry: InstrumentRegistry) -> None:
        self._desk = desk
        self._face = face
        self._registry = registry

    def __call__(
        self, window: CachedWindow, underlying_ltp: float | None, underlying_source: str | None
    ) -> Mapping[str, object]:
        """``rows`` of the window's legs; the underlying that the caller is told stands in the summary too."""
        chain = self._desk.acquire(window.chain)
        try:
            told: dict[str, object] = {"underlying_ltp": underlying_ltp, "underlying_source": underlying_source}
            future_ltp = chain.summary["future_ltp"]
            assert future_ltp is None or isinstance(future_ltp, float)
            told["basis"] = basis(future_ltp, underlying_ltp)
            return {
                "rows": self._rows([each for key in window.keys if (each := self._registry.get(key))]),
                "summary": {**chain.summary, **told},
                "coverage": dict(chain.coverage),
            }
        finally:
            self._desk.release(window.chain)

    def _rows(self, legs: list[Instrument]) -> object:
        rows = self._face.acquire(legs)
        try:
            return whole_rows([each.token for each in legs], self._face.values[rows])
        finally:
            self._face.release(rows)
