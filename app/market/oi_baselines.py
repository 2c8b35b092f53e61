"""Fills in what ``oi_change`` is measured against where no earlier session was kept (contract, rule 11)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from datetime import date
from typing import NamedTuple, Protocol

import structlog

from app.core.ids import InstrumentKind, OptionType
from app.core.instruments import Instrument
from app.market.live_prices import LivePrices
from app.market.session_oi import OiBasis, PreviousOi
from app.market.wishes import Wish
from app.ports.clock import Clock

AskChain = Callable[[Instrument, date], Awaitable[Mapping[tuple[float, OptionType], int]]]
LOOK_S = 30.0
LEGS_A_STEP = 1_000  # some 2 ms
REFUSALS_MAX = 3  # in a row; then everybody waits
PAUSE_S = 900.0


class ChainName(NamedTuple):
    symbol: str
    exchange: str
    expiry: date


class Listing(Protocol):
    def spot_of(self, symbol: str, expiry: date | None, exchange: str | None = None) -> Instrument | None: ...


class OiBaselines:
    """OWNS which chains were asked for and on which day.

    ``ask`` gives the previous session's OI of a chain by strike and side, and raises one of ``refusals`` where it
    cannot; ``pace_s`` is the least time between two questions.
    """

    def __init__(
        self,
        board: LivePrices,
        registry: Listing,
        wishes: Callable[[], Iterable[Wish]],
        clock: Clock,
        ask: AskChain,
        refusals: tuple[type[Exception], ...],
        pace_s: float,
    ) -> None:
        self._board = board
        self._registry = registry
        self._wishes = wishes
        self._clock = clock
        self._ask = ask
        self._refusals = refusals
        self._pace_s = pace_s
        self._asked: dict[ChainName, date] = {}
        self._refused = 0

    async def run(self) -> None:
        """Ask for what lacks a baseline, one chain after another, until cancelled."""
        while True:
            for chain, legs in (await self._lacking()).items():
                await self._fill(chain, legs)
                await asyncio.sleep(PAUSE_S if self._refused >= REFUSALS_MAX else self._pace_s)
            await asyncio.sleep(LOOK_S)

    async def _lacking(self) -> dict[ChainName, list[Instrument]]:
        """Subscribed chains with a leg that has no baseline, those not yet asked for today."""
        today = self._clock.now().date()
        chains: dict[ChainName, list[Instrument]] = {}
        for number, wish in enumerate(list(self._wishes())):
            if number % LEGS_A_STEP == 0:
                await asyncio.sleep(0)
            leg = wish.instrument
            if leg.kind is InstrumentKind.OPTION and leg.expiry is not None:
                chain = ChainName(leg.symbol, str(leg.exchange), leg.expiry)
                if self._asked.get(chain) != today and self._board.lacks_baseline(leg):
                    chains.setdefault(chain, []).append(leg)
        return chains

    async def _fill(self, chain: ChainName, legs: list[Instrument]) -> None:
        underlying = self._registry.spot_of(chain.symbol, chain.expiry, chain.exchange)
        if underlying is None:
            self._asked[chain] = self._clock.now().date()
            return
        try:
            told = await self._ask(underlying, chain.expiry)
        except self._refusals as error:
            self._note_refusal(error)
            return
        if self._refused:
            structlog.get_logger("open_interest").info("the broker's chains come again")
        self._refused = 0
        self._asked[chain] = self._clock.now().date()
        self._board.add_baselines(_matching(legs, told))

    def _note_refusal(self, error: Exception) -> None:
        self._refused += 1
        if self._refused == REFUSALS_MAX:
            log = structlog.get_logger("open_interest")
            log.warning("no previous open interest from the broker", reason=str(error), again_after_s=PAUSE_S)


def _matching(
    legs: Iterable[Instrument], told: Mapping[tuple[float, OptionType], int]
) -> Iterator[tuple[Instrument, PreviousOi]]:
    for leg in legs:
        assert leg.strike is not None
        assert leg.option_type is not None
        oi = told.get((round(leg.strike, 4), leg.option_type))
        if oi is not None:
            yield leg, PreviousOi(oi, OiBasis.REST)
