"""Keeps Tier B wished: drivers and futures at once, chains as their spots become known, windows that follow."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Protocol

from app.core.errors import TerminalError
from app.core.ids import Exchange, InstrumentKey, format_expiry
from app.core.instruments import Instrument
from app.market.atm_engine import COOLDOWN_MS, ATMEngine, CachedWindow, ChainId, LadderLike, follow, has_moved
from app.market.entries import Wanted
from app.market.events import Event, Notify
from app.market.journal import Journal, atm_row
from app.market.legs import LegFinder
from app.market.subscription_manager import SubscriptionManager
from app.market.tiers import AlwaysOn
from app.market.wishes import TIER_B_OWNER
from app.ports.clock import Clock


class Spots(Protocol):
    """The part of the board that windows need."""

    def last_price(self, key: InstrumentKey) -> float | None: ...


class SpotOf(Protocol):
    """The part of the registry that tells a chain's underlying."""

    def spot_of(self, symbol: str, expiry: date | None, exchange: str | None = None) -> Instrument | None: ...
    def ladder(self, symbol: str, expiry: date | str, exchange: str | None = None) -> LadderLike: ...


CHAINS_A_STEP = 2  # of 202 legs each: some 10 ms


@dataclass(slots=True)
class _Kept:
    """One always-on chain; ``window`` None while its spot is not known or there was no room."""

    chain: ChainId
    strikes: int
    legs: int
    spot: InstrumentKey | None
    window: CachedWindow | None = None


class TierB:
    """OWNS which always-on chains are filled."""

    def __init__(
        self,
        registry: SpotOf,
        engine: ATMEngine,
        finder: LegFinder,
        spots: Spots,
        wishes: SubscriptionManager,
        journal: Journal,
        clock: Clock,
        notify: Notify,
    ) -> None:
        self._registry = registry
        self._engine = engine
        self._finder = finder
        self._spots = spots
        self._wishes = wishes
        self._journal = journal
        self._clock = clock
        self._notify = notify
        self._universe = AlwaysOn()
        self._singles: dict[InstrumentKey, Instrument] = {}
        self._kept: dict[ChainId, _Kept] = {}
        self._did_fit = True

    @property
    def waiting(self) -> list[ChainId]:
        """Chains without a window yet."""
        return [each.chain for each in self._kept.values() if each.window is None]

    @property
    def is_whole(self) -> bool:
        return self._did_fit and not self.waiting

    def relist(self) -> None:
        """A new instrument master: windows that have lost a leg by it are opened anew; what is not listed has left."""
        self._singles = {key: each for key, each in self._singles.items() if self._wishes.is_tier_b(key)}
        for kept in self._kept.values():
            kept.spot = self._spot_key(kept.chain)
            if kept.window is not None and not all(map(self._wishes.is_tier_b, kept.window.keys)):
                self._wishes.move(TIER_B_OWNER, (), kept.window.keys)
                kept.window = None
        self._promise()

    def use(self, universe: AlwaysOn) -> None:
        """Wish a day's universe: what is in it and was not, comes; what was in it and is not, goes."""
        self._universe = universe
        singles = universe.singles
        gone = {key for key in self._singles if key not in singles}
        chains = {ChainId(each.symbol, each.expiry, Exchange(each.exchange)): each for each in universe.chains}
        for chain in [chain for chain in self._kept if chain not in chains]:
            gone.update(_keys(self._kept.pop(chain).window))
        self._did_fit = self._wishes.move(TIER_B_OWNER, singles.values(), gone)
        self._singles = singles if self._did_fit else self._singles
        for chain, rule in chains.items():
            if chain not in self._kept or self._kept[chain].strikes != rule.strikes:
                self._kept[chain] = _Kept(chain, rule.strikes, rule.legs, self._spot_key(chain))
        self._promise()
        while self.fill():
            pass

    def fill(self) -> int:
        """Open windows of chains whose spot is known by now, a few in a step; no spot, no guess.

        Returns how many were opened: none, and there is nothing to be done at the moment.
        """
        opened = 0
        if not self._did_fit:
            singles = self._universe.singles
            self._did_fit = self._wishes.add_tier_b(singles.values())
            self._singles = singles if self._did_fit else self._singles
        for kept in self._kept.values():
            if kept.window is None and (spot := self._spot(kept)) is not None:
                opened += self._open(kept, spot)
            if opened == CHAINS_A_STEP:
                break
        return opened

    def follow(self) -> int:
        """Move windows that their spot has left; returns how many moved."""
        return sum(self._follow(kept) for kept in self._kept.values() if kept.window is not None)

    def report(self) -> dict[str, object]:
        """What was asked, what is listed, what is missing by name, what still waits for its spot, and the drivers."""
        return {
            "asked": self._universe.asked,
            "listed": self._universe.total,
            "subscribed": self._wishes.tier_b_count,
            "missing": list(self._universe.missing),
            "waiting": [f"{chain.symbol} {format_expiry(chain.expiry)}" for chain in self.waiting],
            "chains": len(self._kept),
            "drivers": [each.token for each in self._universe.drivers],
        }

    def _open(self, kept: _Kept, spot: float) -> bool:
        try:
            window = self._engine.preview(kept.chain, spot, kept.strikes)
        except TerminalError:  # gone from the listing since the universe was made
            return False
        kept.window = window
        self._promise()  # its legs are about to be counted as wished
        wanted = self._legs(window)
        self._journal.note_reason((each.token for each in wanted.legs), "always on")
        if not self._wishes.add_tier_b(wanted.legs):
            kept.window = None
            self._promise()
            return False
        self._show(kept, window)
        return True

    def _follow(self, kept: _Kept) -> bool:
        old, spot = kept.window, self._spot(kept)
        if old is None or spot is None or not has_moved(old.window, spot, old.ladder.step):
            return False
        now_ms = self._clock.now_ms()
        moved = follow(
            old.window,
            old.ladder.strikes,
            spot,
            kept.strikes,
            old.ladder.step,
            moved_ms=old.moved_ms,
            now_ms=now_ms,
            cooldown_ms=COOLDOWN_MS,
        )
        if moved is None:
            return False
        try:
            window = self._engine.preview(kept.chain, spot, kept.strikes)
        except TerminalError:  # over, or gone from the listing: it stays as it is until the new universe
            return False
        before, wanted = set(_keys(old)), self._legs(window)
        coming = [each for each in wanted.legs if each.key not in before]
        leaving = before - {each.key for each in wanted.legs}
        changing = [*coming, *self._wishes.instruments(leaving)]
        self._journal.note_reason((each.token for each in changing), "always-on window moved")
        if not self._wishes.move(TIER_B_OWNER, coming, leaving):
            return False
        self._show(kept, window)
        if coming:
            self._tell_moved(kept.chain, window)
        return bool(coming)

    def _show(self, kept: _Kept, window: CachedWindow) -> None:
        kept.window = window
        self._engine.centre(kept.chain, window.window.centre, kept.strikes)
        self._journal.note_atm(atm_row(window))

    def _tell_moved(self, chain: ChainId, window: CachedWindow) -> None:
        data: dict[str, object] = {
            "symbol": chain.symbol,
            "expiry": format_expiry(chain.expiry),
            "exchange": str(chain.exchange),
            "atm_strike": window.atm_strike,
            "underlying_ltp": window.window.centre,
        }
        self._notify(Event("window_moved", self._clock.now_ms(), None, data))

    def _legs(self, window: CachedWindow) -> Wanted:
        return self._finder.of_window(window, self._finder.type_of(window.ladder))

    def _promise(self) -> None:
        self._wishes.promise_tier_b(sum(each.legs for each in self._kept.values() if each.window is None))

    def _spot(self, kept: _Kept) -> float | None:
        return None if kept.spot is None else self._spots.last_price(kept.spot)

    def _spot_key(self, chain: ChainId) -> InstrumentKey | None:
        spot = self._registry.spot_of(chain.symbol, chain.expiry, str(chain.exchange))
        return None if spot is None else spot.key


def _keys(window: CachedWindow | None) -> tuple[InstrumentKey, ...]:
    return () if window is None else window.keys
