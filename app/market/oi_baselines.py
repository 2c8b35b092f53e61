"""Fills in what ``oi_change`` is measured against where no earlier session was kept (contract, rule 11)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from datetime import date
from typing import NamedTuple, Protocol

import structlog

from app.core.errors import TerminalError
from app.core.ids import InstrumentKind, OptionType
from app.core.instruments import Instrument
from app.core.sessions import Calendar, Session
from app.market.live_prices import LivePrices
from app.market.session_oi import OiBasis, PreviousOi
from app.market.wishes import Wish
from app.ports.clock import Clock

AskChain = Callable[[Instrument, date], Awaitable[Mapping[tuple[float, OptionType], int]]]
LOOK_S = 5.0
LEGS_A_STEP = 1_000  # some 2 ms
REFUSALS_MAX = 3  # in a row; then everybody waits
PAUSE_S = 900.0


class ChainName(NamedTuple):
    symbol: str
    exchange: str
    expiry: date


class Listing(Protocol):
    """The part of the registry that tells what a chain consists of."""

    def spot_of(self, symbol: str, expiry: date | None, exchange: str | None = None) -> Instrument | None: ...
    def get_option_chain(self, symbol: str, expiry: date | str, exchange: str | None = None) -> list[Instrument]: ...


class OiBaselines:
    """OWNS which chains were asked for and in which session.

    ``ask`` gives the previous session's OI of a chain by strike and side, and raises one of ``refusals`` where it
    cannot; ``pace_s`` is the least time between two questions.
    """

    def __init__(
        self,
        board: LivePrices,
        registry: Listing,
        wishes: Callable[[], Iterable[Wish]],
        calendar: Calendar,
        clock: Clock,
        ask: AskChain,
        refusals: tuple[type[Exception], ...],
        pace_s: float,
    ) -> None:
        self._board = board
        self._registry = registry
        self._wishes = wishes
        self._calendar = calendar
        self._clock = clock
        self._ask = ask
        self._refusals = refusals
        self._pace_s = pace_s
        self._asked: dict[ChainName, Session | None] = {}
        self._refused = 0

    async def run(self) -> None:
        """Ask for what lacks a baseline, one chain after another, until cancelled."""
        while True:
            for chain, session in (await self._lacking()).items():
                await self._fill(chain, session)
                await asyncio.sleep(PAUSE_S if self._refused >= REFUSALS_MAX else self._pace_s)
            await asyncio.sleep(LOOK_S)

    async def _lacking(self) -> dict[ChainName, Session | None]:
        """Subscribed chains with a leg that has no baseline, and the newest session of each: not yet asked for in it.

        What was told before a session says nothing in it, for that is another session before.
        """
        now = self._clock.now()
        chains: dict[ChainName, Session | None] = {}
        for number, wish in enumerate(list(self._wishes())):
            if number % LEGS_A_STEP == 0:
                await asyncio.sleep(0)
            leg = wish.instrument
            if leg.kind is InstrumentKind.OPTION and leg.expiry is not None and self._board.lacks_baseline(leg):
                chain = ChainName(leg.symbol, str(leg.exchange), leg.expiry)
                session = self._calendar.latest_session(leg.key.segment, now)
                if chain not in self._asked or self._asked[chain] != session:
                    chains[chain] = session
        return chains

    async def _fill(self, chain: ChainName, session: Session | None) -> None:
        underlying = self._registry.spot_of(chain.symbol, chain.expiry, chain.exchange)
        if underlying is None:
            self._asked[chain] = session
            return
        try:
            told = await self._ask(underlying, chain.expiry)
        except self._refusals as error:
            self._note_refusal(error)
            return
        if self._refused >= REFUSALS_MAX:
            structlog.get_logger("open_interest").info("the broker's chains come again")
        self._refused = 0
        self._asked[chain] = session
        with contextlib.suppress(TerminalError):  # listed no more, by a master read meanwhile
            legs = self._registry.get_option_chain(chain.symbol, chain.expiry, chain.exchange)
            self._board.add_baselines(_matching(legs, told))  # of all, for windows move

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
