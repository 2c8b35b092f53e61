"""The books behind ``SubscriptionManager``: who owns which instrument, counts, chains and linger. Synchronous.

An instrument is owned from its first owner to its last. Without one it lingers: out of the books, still on the wire,
so that a changed mind costs nothing there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from app.core.ids import InstrumentKey, Tier
from app.core.instruments import Instrument
from app.market.eviction import ChainKey
from app.ports.clock import Clock

TIER_B_OWNER = 0  # entries have ids from 1; wishes taken by token count down from -1
LINGER_SLICE = 500  # as many leave the wire at a time as take well under 5 ms


class Wire(Protocol):
    """The part of the connections' owner that wishes talk to."""

    def carry(self, instrument: Instrument) -> int | None:
        """Give the instrument a connection (1-based), or None while none has room."""
        ...

    def uncarry(self, key: InstrumentKey) -> None: ...
    def ws_id(self, key: InstrumentKey) -> int | None: ...
    def is_carried(self, key: InstrumentKey) -> bool: ...
    def ws_usage(self) -> dict[int, int]: ...


@dataclass(slots=True)
class Wish:
    """One instrument that somebody wants, or wanted until a moment ago."""

    instrument: Instrument
    number: int  # rises with every wish: the order and the cursor of listings
    since: datetime
    owners: set[int] = field(default_factory=set)

    @property
    def tier(self) -> Tier:
        return Tier.B if TIER_B_OWNER in self.owners else Tier.A


@dataclass(slots=True)
class Claim:
    """What one Tier A owner holds, and when it was last used (epoch ms)."""

    owner: int
    chain: ChainKey
    used_ms: int
    keys: dict[InstrumentKey, None] = field(default_factory=dict)


@dataclass(slots=True)
class Chain:
    """The claims on one chain; ``shown_ms`` is when it was last seen on a screen, 0 for never."""

    owners: set[int] = field(default_factory=set)
    shown_ms: int = 0


class WishBooks:
    """Owners per instrument and instruments per owner, kept in step with the wire."""

    def __init__(self, wire: Wire, clock: Clock, capacity: int, linger_s: float) -> None:
        self._wire = wire
        self._clock = clock
        self._linger_s = linger_s
        self.capacity = capacity
        self.revision = 0
        self.changed: set[str] = set()  # tokens whose stored rows may be out of date
        self.tier_a_added = 0  # instruments that a Tier A owner was the first to want, ever
        self._wishes: dict[InstrumentKey, Wish] = {}
        self._by_token: dict[str, InstrumentKey] = {}
        self._lingering: dict[InstrumentKey, float] = {}  # monotonic deadline, soonest first
        self._claims: dict[int, Claim] = {}
        self._chains: dict[ChainKey, Chain] = {}
        self._evicted: set[InstrumentKey] = set()
        self._tier_b = 0
        self._numbers = 0
        self._gathered: tuple[Wish, ...] = ()
        self._gathered_at = 0  # the revision it is of
        self._tell_change: Callable[[], None] = lambda: None

    def on_change(self, call: Callable[[], None]) -> None:
        """``call()`` after every change of the books: wakes the control loop."""
        self._tell_change = call

    # -- reading --------------------------------------------------------------------------------------------------

    @property
    def total(self) -> int:
        """Distinct instruments with an owner."""
        return len(self._wishes) - len(self._lingering)

    @property
    def tier_b_count(self) -> int:
        return self._tier_b

    @property
    def tier_a_count(self) -> int:
        """Instruments that only Tier A owns."""
        return self.total - self._tier_b

    @property
    def lingering(self) -> int:
        return len(self._lingering)

    def lingering_keys(self) -> Collection[InstrumentKey]:
        """What nobody owns any more and is still on the wire."""
        return self._lingering.keys()

    def wish(self, key: InstrumentKey) -> Wish | None:
        """The wish of an instrument that has an owner."""
        return None if key in self._lingering else self._wishes.get(key)

    def wish_of_token(self, token: str) -> Wish | None:
        key = self._by_token.get(token)
        return None if key is None else self.wish(key)

    def instruments(self, keys: Iterable[InstrumentKey]) -> list[Instrument]:
        """Those of the keys that somebody owns."""
        return [wish.instrument for key in keys if (wish := self.wish(key)) is not None]

    def is_tier_b(self, key: InstrumentKey) -> bool:
        wish = self._wishes.get(key)
        return wish is not None and TIER_B_OWNER in wish.owners

    def wishes(self) -> Sequence[Wish]:
        """Owned instruments in the order in which they were wished; gathered anew when the books have changed."""
        if self._gathered_at != self.revision:
            lingering = self._lingering
            self._gathered = tuple(wish for key, wish in self._wishes.items() if key not in lingering)
            self._gathered_at = self.revision
        return self._gathered

    def owned(self) -> Iterable[Instrument]:
        """Every instrument that somebody owns."""
        return (wish.instrument for wish in self.wishes())

    def held_by(self, owner: int) -> tuple[InstrumentKey, ...]:
        claim = self._claims.get(owner)
        return () if claim is None else tuple(claim.keys)

    def has_claim(self, owner: int) -> bool:
        return owner in self._claims

    def claims(self) -> tuple[int, ...]:
        """Every Tier A owner."""
        return tuple(self._claims)

    def is_claimed(self, chain: ChainKey) -> bool:
        """Whether any Tier A owner holds the chain."""
        return chain in self._chains

    def is_owned(self, key: InstrumentKey) -> bool:
        return key in self._wishes and key not in self._lingering

    def is_evicted(self, key: InstrumentKey) -> bool:
        """Whether the last owner was evicted and nobody has wished it since."""
        return key in self._evicted

    def set_evicted(self, keys: Iterable[InstrumentKey], *, is_evicted: bool) -> None:
        """Correct that mark: evicted before a restart, or taken off the list since."""
        for key in keys:
            if is_evicted and not self.is_owned(key):
                self._evicted.add(key)
            else:
                self._evicted.discard(key)
        self.revision += 1

    # -- use ------------------------------------------------------------------------------------------------------

    def touch(self, chain: ChainKey, at_ms: int) -> None:
        """Somebody used the chain."""
        if use := self._chains.get(chain):
            for owner in use.owners:
                self._claims[owner].used_ms = at_ms

    def show(self, chain: ChainKey, at_ms: int) -> None:
        """The chain is on somebody's screen."""
        if use := self._chains.get(chain):
            use.shown_ms = at_ms

    # -- linger ---------------------------------------------------------------------------------------------------

    def expire_lingering(self, limit: int = LINGER_SLICE) -> int:
        """Take what nobody asked for again off the wire, at most ``limit``; returns how many."""
        now = self._clock.monotonic()
        over: list[InstrumentKey] = []
        for key, until in self._lingering.items():
            if until > now or len(over) == limit:
                break
            over.append(key)
        for key in over:
            self._forget(key)
        return len(over)

    def _forget(self, key: InstrumentKey) -> None:
        del self._lingering[key]
        wish = self._wishes.pop(key)
        del self._by_token[wish.instrument.token]
        self._wire.uncarry(key)

    # -- changes of ownership -------------------------------------------------------------------------------------

    def _claim(
        self, owner: int, chain: ChainKey, instruments: Iterable[Instrument], used_ms: int | None = None
    ) -> None:
        at_ms = self._clock.now_ms() if used_ms is None else used_ms
        claim = self._claims.setdefault(owner, Claim(owner, chain, at_ms))
        if claim.chain != chain:  # the same on another exchange
            self._leave_chain(claim)
            claim.chain = chain
        claim.used_ms = max(claim.used_ms, at_ms)
        self._chains.setdefault(chain, Chain()).owners.add(owner)
        self._give_to(owner, instruments)

    def _evict(self, owner: int) -> None:
        self._evicted.update(each.key for each in self._release(owner, linger=False))

    def _release(self, owner: int, *, linger: bool) -> list[Instrument]:
        claim = self._claims.get(owner)
        if claim is None:
            return []
        freed = self._take_from(owner, list(claim.keys), linger=linger)
        del self._claims[owner]
        self._leave_chain(claim)
        return freed

    def _leave_chain(self, claim: Claim) -> None:
        use = self._chains[claim.chain]
        use.owners.discard(claim.owner)
        if not use.owners:
            del self._chains[claim.chain]

    def _give_to(self, owner: int, instruments: Iterable[Instrument]) -> None:
        claim, now = self._claims.get(owner), self._clock.now()
        # Those still on the wire first: a new one may need the place of a lingering one.
        for instrument in sorted(instruments, key=lambda each: each.key not in self._wishes):
            key = instrument.key
            wish = self._wishes.get(key)
            if wish is None or key in self._lingering:
                wish = self._first_owner(instrument, wish, now)
                self.tier_a_added += owner != TIER_B_OWNER
            if owner == TIER_B_OWNER and owner not in wish.owners:
                self._tier_b += 1
            wish.owners.add(owner)
            if claim is not None:
                claim.keys[key] = None
            self.changed.add(instrument.token)
            self._gained(key)

    def _first_owner(self, instrument: Instrument, lingering: Wish | None, now: datetime) -> Wish:
        key = instrument.key
        self._numbers += 1
        self._evicted.discard(key)
        if lingering is not None:  # still on the wire: nothing to send
            del self._lingering[key]
            wish = self._wishes.pop(key)
            wish.number, wish.since = self._numbers, now
            self._wishes[key] = wish  # at the end: listings go by number
            return wish
        while len(self._wishes) >= self.capacity:
            self._forget(next(iter(self._lingering)))
        wish = self._wishes[key] = Wish(instrument, self._numbers, now)
        self._by_token[instrument.token] = key
        self._wire.carry(instrument)
        return wish

    def _take_from(self, owner: int, keys: Iterable[InstrumentKey], *, linger: bool) -> list[Instrument]:
        """Returns the instruments that nobody owns any more."""
        claim = self._claims.get(owner)
        freed = []
        for key in keys:
            wish = self._wishes[key]
            wish.owners.remove(owner)
            if owner == TIER_B_OWNER:
                self._tier_b -= 1
            if claim is not None:
                del claim.keys[key]
            self.changed.add(wish.instrument.token)
            if not wish.owners:
                freed.append(wish.instrument)
                self._lingering[key] = self._clock.monotonic() + self._linger_s
                self._lost(key)
                if not linger:
                    self._forget(key)
        return freed

    def _gained(self, key: InstrumentKey) -> None:
        """Hook: an owner was added."""

    def _lost(self, key: InstrumentKey) -> None:
        """Hook: the last owner is gone."""

    def _changed_books(self) -> None:
        self.revision += 1
        self._tell_change()
