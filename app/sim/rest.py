"""The exchange's REST side, as far as the service asks for it: ``POST /v2/optionchain`` in Dhan's shape."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Any

from app.core.ids import InstrumentKey, Segment
from app.core.instruments import Instrument
from app.sim.prices import Directory, Market

CHAIN_PATH = "/v2/optionchain"
UNIQUE_EVERY_S = 3.0  # one chain more often than this is refused (protocol notes, 5.1)
Answer = tuple[int, object]


@dataclass(slots=True)
class OptionChains:
    """OWNS when each chain was last asked for. It tells of the contracts that somebody ever subscribed."""

    market: Market
    directory: Directory
    _listed: dict[tuple[InstrumentKey, date], list[tuple[Instrument, int]]] = field(default_factory=dict)
    _seen: int = 0
    _asked_s: dict[tuple[InstrumentKey, date], float] = field(default_factory=dict)

    def answer(self, asked: Any, now_s: float) -> Answer:
        """HTTP status and body. Raises nothing: what cannot be read is code 814."""
        try:
            key = InstrumentKey(Segment[asked["UnderlyingSeg"]], int(asked["UnderlyingScrip"]))
            chain = key, date.fromisoformat(asked["Expiry"])
        except (KeyError, TypeError, ValueError):
            return 400, {"data": {"814": "Invalid Request"}, "status": "failed"}
        if now_s - self._asked_s.get(chain, -UNIQUE_EVERY_S) < UNIQUE_EVERY_S:
            return 429, {"errorType": "Rate_Limit", "errorCode": "DH-904", "errorMessage": "Too many requests"}
        self._asked_s[chain] = now_s
        self._list_new()
        legs = self._listed.get(chain)
        if legs is None:
            return 400, {"data": {"811": "Invalid Expiry Date"}, "status": "failed"}
        return 200, {"data": {"last_price": 0.0, "oc": self._strikes(legs)}, "status": "success"}

    def _list_new(self) -> None:
        """Each contract is looked up once, whatever is asked later."""
        keys = self.market.keys
        for slot in range(self._seen, len(keys)):
            listed = self.directory.instrument(keys[slot])
            driver = self.directory.underlying_of(listed) if listed and listed.option_type else None
            if listed is not None and listed.expiry is not None and driver is not None:
                self._listed.setdefault((driver.key, listed.expiry), []).append((listed, slot))
        self._seen = len(keys)

    def _strikes(self, legs: list[tuple[Instrument, int]]) -> dict[str, dict[str, dict[str, object]]]:
        strikes: dict[str, dict[str, dict[str, object]]] = {}
        for listed, slot in legs:
            told: dict[str, object] = {
                "security_id": listed.key.security_id,
                "previous_oi": self.market.previous_oi(slot),
            }
            strikes.setdefault(f"{listed.strike:.6f}", {})[str(listed.option_type).lower()] = told
        return strikes
