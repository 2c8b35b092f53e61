"""The broker's option chain over REST (protocol notes, 5): asked for one thing only, the previous session's OI."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any, Protocol

import httpx
import orjson

from app.core.ids import OptionType
from app.core.instruments import Instrument

CHAIN_PATH = "/optionchain"
PACE_S = 3.1  # one unique chain per 3 s (protocol notes, 5.1), and a little
_SIDES = {"ce": OptionType.CE, "pe": OptionType.PE}

Leg = tuple[float, OptionType]


class ChainRefused(Exception):
    """No chain came; the text says why, without what identifies the account."""


class Account(Protocol):
    """Who asks; ``TokenSource`` is one."""

    client_id: str

    async def token(self) -> str: ...


class OptionChainRest:
    """Asks for chains. ``base_url`` may be known only after the simulator has started."""

    def __init__(self, http: httpx.AsyncClient, account: Account, base_url: str | None) -> None:
        self._http = http
        self._account = account
        self._base_url = base_url

    def point_at(self, base_url: str) -> None:
        self._base_url = base_url

    async def previous_oi(self, underlying: Instrument, expiry: date) -> Mapping[Leg, int]:
        """OI of the previous session by strike (rupees) and side, in the exchange's units; what is not told is absent.

        A chain without a single figure above zero counts as not told: some accounts are sent such chains.

        Raises:
            ChainRefused: no usable answer.
            FeedClosed: there is no token.
        """
        if self._base_url is None:
            raise ChainRefused("its address is not known yet")
        body = {
            "UnderlyingScrip": underlying.key.security_id,
            "UnderlyingSeg": underlying.key.segment.name,
            "Expiry": expiry.isoformat(),
        }
        headers = {"access-token": await self._account.token(), "client-id": self._account.client_id}
        try:
            answer = await self._http.post(f"{self._base_url}{CHAIN_PATH}", json=body, headers=headers)
        except httpx.HTTPError as error:
            raise ChainRefused(type(error).__name__) from None
        told = read_previous_oi(answer.status_code, answer.content)
        return told if any(told.values()) else {}


def read_previous_oi(status: int, body: bytes) -> dict[Leg, int]:
    """The figures of one answer.

    Raises:
        ChainRefused: an error, in any of the broker's shapes, or no chain at all.
    """
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise ChainRefused(f"HTTP {status}, not JSON") from None
    if status != 200 or not isinstance(answer, dict) or answer.get("status") != "success":
        raise ChainRefused(_reason(status, answer))
    data = answer.get("data")
    strikes = data.get("oc") if isinstance(data, dict) else None
    if not isinstance(strikes, dict):
        raise ChainRefused("no chain in the answer")
    found: dict[Leg, int] = {}
    for text, sides in strikes.items():
        for name, side in _SIDES.items():
            oi = _oi_of(sides, name)
            if oi is not None:
                found[_strike(text), side] = oi
    return found


def _oi_of(sides: Any, name: str) -> int | None:
    leg = sides.get(name) if isinstance(sides, dict) else None
    oi = leg.get("previous_oi") if isinstance(leg, dict) else None
    return int(oi) if isinstance(oi, int | float) and not isinstance(oi, bool) and 0 <= oi < 2**32 else None


def _strike(text: str) -> float:
    try:
        return round(float(text), 4)
    except ValueError:
        raise ChainRefused("a strike that is no number") from None


def _reason(status: int, answer: Any) -> str:
    """Two shapes of errors (protocol notes, 5.3); only their codes are repeated."""
    if isinstance(answer, dict):
        code, data = answer.get("errorCode"), answer.get("data")
        if isinstance(code, str):
            return f"HTTP {status}, {code[:16]}"
        if isinstance(data, dict) and data:
            return f"HTTP {status}, {next(iter(data))!s:.16}"
    return f"HTTP {status}"
