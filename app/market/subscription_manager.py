"""OWNS the wishes: which instruments are wanted, by whom, in which tier; admission and eviction.

Books change at once and synchronously; the wire follows. Knows nothing of users' lists and of the database.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol, cast

from app.core.doors import Door
from app.core.errors import CapacityExceeded, InstrumentUnknown, InvalidRequest, TerminalError
from app.core.ids import Exchange, InstrumentKey, InstrumentKind, OptionType, Segment, Tier, format_expiry
from app.core.instruments import Instrument
from app.market.carried import Precedence
from app.market.eviction import Candidate, ChainKey, Victim, choose_victims
from app.market.wishes import TIER_B_OWNER, Chain, Claim, Wire, Wish, WishBooks
from app.ports.clock import Clock
from app.ports.feed import FeedLimits
from app.ports.store import InstrumentType

__all__ = ["TIER_B_OWNER", "Admission", "SubscriptionManager", "Swept", "Wish"]

LINGER_S = 30.0
ON_SCREEN_MS = 10_000  # a chain counts as on a screen for so long after it was last reported there

# Plain texts: an enum's name and value are slow to read, and 25,000 records are told at once.
_SEGMENT_NAMES = {segment: segment.name for segment in Segment}
_OPTION_NAMES: dict[OptionType | None, str | None] = {None: None} | {each: each.value for each in OptionType}
_TIER_A, _TIER_B = Tier.A.value, Tier.B.value


class TokenLookup(Protocol):
    """The part of the registry that wishes by token need."""

    def by_token(self, token: str) -> Instrument: ...
    def get_all(self, keys: Sequence[InstrumentKey]) -> list[Instrument | None]: ...
    def index(self, symbol: str) -> Instrument | None: ...
    def get_by_symbol_expiry(
        self, symbol: str, expiry: date | str, exchange: str | None = None
    ) -> list[Instrument]: ...


@dataclass(frozen=True, slots=True, eq=False)
class Admission:
    """Room kept for a request until it is settled or withdrawn; ``victims`` leave when it is settled."""

    wanted: dict[InstrumentKey, Instrument]
    chain: ChainKey
    victims: tuple[Victim, ...]


@dataclass(frozen=True, slots=True)
class Swept:
    """A claim that ended without its owner's use case; the lists are brought in line afterwards."""

    owner: int
    reason: str
    evicted: bool
    freed: tuple[Instrument, ...] = ()


class SubscriptionManager(WishBooks):
    """The books of all wishes, and who may enter them.

    Distinct owned instruments, together with what pending admissions bring and free and what is promised to Tier B,
    never pass the capacity. Lingering instruments hold a place on the wire only until somebody needs it.
    """

    def __init__(
        self, registry: TokenLookup, wire: Wire, limits: FeedLimits, clock: Clock, *, linger_s: float = LINGER_S
    ) -> None:
        super().__init__(wire, clock, limits.capacity, linger_s)
        self._registry = registry
        self._promised = 0
        self._pending: list[Admission] = []
        self._coming: set[InstrumentKey] = set()  # wanted by pending admissions, owned by nobody
        self._leaving: set[InstrumentKey] = set()  # freed when pending admissions settle
        self._swept: list[Swept] = []
        self._taken_by_token: dict[str, int] = {}
        self._last_token_owner = 0

    @property
    def free(self) -> int:
        """Instruments that may still be wished without anybody giving way."""
        return -self._short(())

    def promise_tier_b(self, legs: int) -> None:
        """Keep room for Tier B legs that wait for their spot. Affects: admission only."""
        self._promised = legs

    # -- admission ------------------------------------------------------------------------------------------------

    def admit(self, instruments: Iterable[Instrument], chain: ChainKey, owner: int | None = None) -> Admission:
        """Keep room for the whole of a request, choosing who gives way if somebody must: never what ``owner`` holds.

        Nothing changes hands until :meth:`want`; :meth:`withdraw` undoes it. Until then moves, returns and Tier B count
        it as done, so that it is still true when the commit returns.

        Raises:
            CapacityExceeded: ``short`` instruments do not fit, whoever gives way.
        """
        wanted = {instrument.key: instrument for instrument in instruments}
        short = self._short(wanted)
        victims: list[Victim] = []
        if short > 0:
            # What another request under way is about to hold frees no place either.
            kept = wanted.keys() | {key for each in self._pending for key in each.wanted}
            victims = choose_victims(self._candidates(chain, owner), short, self._holders, kept)
            if not victims:
                raise CapacityExceeded(
                    f"{short} of {len(wanted)} instruments do not fit: all {self.capacity} places are taken by Tier B, "
                    "by this chain or by requests under way",
                    short=short,
                )
        admission = Admission(wanted, chain, tuple(victims))
        self._pending.append(admission)
        self._coming.update(key for key in wanted if not self.is_owned(key))
        self._leaving.difference_update(wanted)
        self._leaving.update(key for victim in victims for key in victim.freed)
        return admission

    def withdraw(self, admission: Admission) -> None:
        """Give the kept room back: the request failed."""
        self._pending.remove(admission)
        self._recount_pending()

    def want(self, admission: Admission, owner: int) -> None:
        """Settle an admission: its victims leave books and wire at once, the owner gets what it asked for.

        An owner that has a claim already exchanges it for the new one.
        """
        wanted = admission.wanted
        was_held = [key for key in self.held_by(owner) if key not in wanted]
        # What is on the wire changes hands before the victims go, so that a shared leg never leaves it.
        self._claim(owner, admission.chain, [each for key, each in wanted.items() if key in self._wishes])
        for victim in admission.victims:
            for each in victim.owners:
                self._evict(each)
        self._give_to(owner, [each for key, each in wanted.items() if not self._owns(owner, key)])
        self._take_from(owner, was_held, linger=True)
        self._pending.remove(admission)
        self._recount_pending()
        self._changed_books()

    def is_doomed(self, owner: int) -> bool:
        """Whether a pending admission evicts that owner: its legs must not move meanwhile."""
        return any(owner in victim.owners for admission in self._pending for victim in admission.victims)

    def _short(self, wanted: Iterable[InstrumentKey]) -> int:
        """How many places are lacking for ``wanted``, now and once pending admissions are settled; below 0: spare."""
        unowned, lasting = 0, 0
        for key in wanted:
            is_owned = self.is_owned(key)
            unowned += not is_owned
            lasting += key in self._leaving if is_owned else key not in self._coming
        change = len(self._coming) - len(self._leaving)
        return self.total + max(unowned, lasting + change) + self._promised - self.capacity

    def _is_awaited(self, key: InstrumentKey) -> bool:
        return any(key in admission.wanted for admission in self._pending)

    def _recount_pending(self) -> None:
        wanted = {key for admission in self._pending for key in admission.wanted}
        freed = {key for admission in self._pending for victim in admission.victims for key in victim.freed}
        self._coming = {key for key in wanted if not self.is_owned(key)}
        self._leaving &= freed

    def _gained(self, key: InstrumentKey) -> None:
        self._coming.discard(key)
        self._leaving.discard(key)

    def _lost(self, key: InstrumentKey) -> None:
        self._leaving.discard(key)
        if self._pending and self._is_awaited(key):
            self._coming.add(key)

    def _holders(self, key: InstrumentKey) -> int:
        return len(self._wishes[key].owners)

    def _candidates(self, asking: ChainKey, owner: int | None) -> Iterator[Candidate]:
        """Tier A chains in the order in which they give way."""
        for chain, use in sorted(self._chains.items(), key=lambda item: self._rank(item[1])):
            if chain != asking and owner not in use.owners and not any(map(self.is_doomed, use.owners)):
                yield Candidate(chain, {each: self._claims[each].keys for each in sorted(use.owners)})

    def precedence(self, key: InstrumentKey) -> Precedence:
        """Whether the key keeps its place on the wire where sockets are short of room: told of each wished key."""
        owners = self._wishes[key].owners
        if TIER_B_OWNER in owners:
            return Precedence.ALWAYS_ON
        chains = (self._chains[self._claims[owner].chain] for owner in owners)
        return Precedence.ON_SCREEN if any(map(self._is_on_screen, chains)) else Precedence.OTHER

    def _is_on_screen(self, use: Chain) -> bool:
        return use.shown_ms > 0 and 0 <= self._clock.now_ms() - use.shown_ms <= ON_SCREEN_MS

    def _rank(self, use: Chain) -> tuple[bool, int]:
        on_screen = self._is_on_screen(use)
        return on_screen, use.shown_ms if on_screen else max(self._claims[owner].used_ms for owner in use.owners)

    # -- changes without admission --------------------------------------------------------------------------------

    def restore(self, owner: int, chain: ChainKey, instruments: Iterable[Instrument], used_ms: int) -> bool:
        """Give an owner what it had before a restart or an eviction, at nobody's cost; False where there is no room."""
        wanted = {instrument.key: instrument for instrument in instruments}
        if self._short(wanted) > 0:
            return False
        self._claim(owner, chain, wanted.values(), used_ms)
        self._changed_books()
        return True

    def would_free(self, owners: Collection[int]) -> list[Instrument]:
        """The instruments that nobody would own without those owners."""
        leaving = set(owners)
        keys = dict.fromkeys(key for owner in owners for key in self.held_by(owner))
        return [self._wishes[key].instrument for key in keys if self._wishes[key].owners <= leaving]

    def subscribed_since(self, key: InstrumentKey, since: datetime) -> None:
        """Correct the start of a wish that was already there before a restart."""
        if wish := self.wish(key):
            wish.since = since

    def release(self, owner: int) -> list[Instrument]:
        """The owner gives up all it holds; returns the instruments that nobody owns any more."""
        freed = self._release(owner, linger=True)
        self._changed_books()
        return freed

    def move(self, owner: int, add: Iterable[Instrument], drop: Collection[InstrumentKey]) -> bool:
        """Move a window: new legs are wished before old ones go, unless only these make the room.

        ``owner`` may be ``TIER_B_OWNER``. Returns False, with nothing changed, where there is no room, or for an owner
        that holds nothing any more.
        """
        if owner != TIER_B_OWNER and owner not in self._claims:
            return False
        coming = {each.key: each for each in add if not self._owns(owner, each.key)}
        going = [key for key in drop if self._owns(owner, key)]
        freed = sum(1 for key in going if len(self._wishes[key].owners) == 1 and not self._is_awaited(key))
        if self._short(coming) > freed or self.is_doomed(owner):
            return False
        tight = self.total + sum(1 for key in coming if not self.is_owned(key)) > self.capacity
        if tight:
            self._take_from(owner, going, linger=False)
        self._give_to(owner, coming.values())
        if not tight:
            self._take_from(owner, going, linger=True)
        self._changed_books()
        return True

    def add_tier_b(self, instruments: Iterable[Instrument]) -> bool:
        """Wish instruments for the whole day. Returns False, with nothing changed, where there is no room."""
        return self.move(TIER_B_OWNER, instruments, ())

    def sweep(self, owners: Iterable[int], reason: str) -> int:
        """End claims whatever their lists say; returns how many instruments nobody owns any more."""
        count = 0
        for owner in list(owners):
            freed = tuple(self._release(owner, linger=True))
            count += len(freed)
            self._swept.append(Swept(owner, reason, evicted=False, freed=freed))
        self._taken_by_token = {t: owner for t, owner in self._taken_by_token.items() if owner in self._claims}
        self._changed_books()
        return count

    def taken_by_token(self) -> list[Claim]:
        """Wishes that came by token: no list knows them."""
        return [self._claims[owner] for owner in self._taken_by_token.values() if owner in self._claims]

    def take_swept(self) -> list[Swept]:
        """Claims that ended here since the last call. One reader: the lists' owner."""
        swept, self._swept = self._swept, []
        return swept

    # -- a new instrument master --------------------------------------------------------------------------------------

    def relist(self) -> None:
        """Let go of what is not listed under its id any more, whoever owns it: the id may be another's now.

        Wishes by token are found anew; what else takes the place of what has gone is for its owners to wish.

        Affects: books and wire at once, without linger, and what requests under way will be given.
        """
        wishes = list(self._wishes.values())
        for wish, is_same in zip(wishes, self._are_listed(each.instrument for each in wishes), strict=True):
            if not is_same:
                self._unlist(wish)
        for admission in self._pending:
            are_listed = self._are_listed(admission.wanted.values())
            for key in [key for key, is_same in zip(admission.wanted, are_listed, strict=True) if not is_same]:
                del admission.wanted[key]
        self._recount_pending()
        for token, owner in list(self._taken_by_token.items()):
            if self.has_claim(owner) and not self.held_by(owner):
                self._take_anew(token, owner)
        self._changed_books()

    def _are_listed(self, instruments: Iterable[Instrument]) -> list[bool]:
        """Whether each is still what its id stands for."""
        known = list(instruments)
        listed = self._registry.get_all([each.key for each in known])
        return [now is not None and now.token == each.token for each, now in zip(known, listed, strict=True)]

    def _unlist(self, wish: Wish) -> None:
        key = wish.instrument.key
        if key in self._lingering:
            self._forget(key)
        for owner in tuple(wish.owners):
            self._take_from(owner, (key,), linger=False)

    def _take_anew(self, token: str, owner: int) -> None:
        with suppress(InstrumentUnknown):
            instrument = self._registry.by_token(token)
            if self._short((instrument.key,)) <= 0:
                self._give_to(owner, (instrument,))
                return
        self._release(owner, linger=False)
        self._taken_by_token.pop(token, None)

    def _owns(self, owner: int, key: InstrumentKey) -> bool:
        wish = self._wishes.get(key)
        return wish is not None and owner in wish.owners

    # -- wishes by token (the user's document; contract, section 8) --------------------------------------------------

    def subscribe(
        self,
        token: str,
        symbol: str | None = None,
        expiry: str | date | None = None,
        strike: float | None = None,
        option_type: str | None = None,
        tier: str = Tier.A,
    ) -> tuple[bool, str, int | None]:
        """Wish one instrument; the answer is success, a message and its connection (1-based).

        Symbol, expiry and strike name an option where they are given; the token may have lost a part of its strike on
        the way (``f"{9.5:.0f}"``). Else the token does. Tier A may evict, as any other wish.
        """
        try:
            wanted_tier = _tier(tier)
            instrument = self._find(token, symbol, expiry, strike, option_type)
            if wanted_tier is Tier.B:
                is_new = not self.is_tier_b(instrument.key)
                if is_new and not self.add_tier_b([instrument]):
                    raise CapacityExceeded(f"{instrument.token} does not fit", short=1)
            else:
                is_new = self._take_by_token(instrument)
        except TerminalError as error:
            return False, error.detail, None
        except ValueError as error:
            return False, str(error), None
        message = f"{instrument.token} {'subscribed' if is_new else 'is subscribed already'} in {wanted_tier}"
        return True, message, self._wire.ws_id(instrument.key)

    def unsubscribe(self, token: str) -> tuple[bool, str]:
        """Take back a wish made by token; lists, explicit chains and Tier B keep theirs."""
        try:
            instrument = self._registry.by_token(token)
        except InstrumentUnknown as error:
            return False, error.detail
        owner = self._taken_by_token.pop(instrument.token, None)
        if owner is None or owner not in self._claims:
            held = self.wish(instrument.key) is not None
            return False, f"{instrument.token} is {'held by others' if held else 'not subscribed'}"
        self.release(owner)
        return True, f"{instrument.token} unsubscribed"

    def unsubscribe_all_tier_a(self, reason: str = "all Tier A unsubscribed") -> int:
        """Release every Tier A wish; returns how many instruments left. Tier B stays."""
        return self.sweep(tuple(self._claims), reason)

    def list_active_subscriptions(self, tier: str | None = None, symbol: str | None = None) -> list[dict[str, object]]:
        """Every owned instrument as a plain record, in the order of the wishes."""
        return list(self.records(self.listed(tier, symbol)))

    def listed(self, tier: str | None = None, symbol: str | None = None) -> Sequence[Wish]:
        """The wishes of one tier, of one symbol, of both; in their order."""
        found = self.wishes()
        if tier is not None:
            is_b = tier == Tier.B
            found = [wish for wish in found if (TIER_B_OWNER in wish.owners) is is_b] if tier in tuple(Tier) else []
        if symbol is not None:
            found = [wish for wish in found if wish.instrument.symbol == symbol]
        return found

    def record(self, wish: Wish) -> dict[str, object]:
        """One row of endpoint 7, but for its state."""
        return next(self.records((wish,)))

    def records(self, wishes: Iterable[Wish]) -> Iterator[dict[str, object]]:
        """A row each. What was wished together has one ``since``: it is written once."""
        since, since_text = None, ""
        ws_id, is_carried = self._wire.ws_id, self._wire.is_carried
        for wish in wishes:
            each = wish.instrument
            if wish.since is not since:
                since, since_text = wish.since, wish.since.isoformat()
            yield {
                "token": each.token,
                "segment": _SEGMENT_NAMES[each.key.segment],
                "security_id": each.key.security_id,
                "symbol": each.symbol,
                "expiry": None if each.expiry is None else format_expiry(each.expiry),
                "strike": each.strike,
                "option_type": _OPTION_NAMES[each.option_type],
                "tier": _TIER_B if TIER_B_OWNER in wish.owners else _TIER_A,
                "subscribed_at": since_text,
                "ws_id": ws_id(each.key),
                "active": is_carried(each.key),
                "owners": len(wish.owners),
            }

    def get_ws_stats(self) -> dict[str, object]:
        """Counts, all ready at hand."""
        return {
            "total_subscriptions": self.total,
            "max_capacity": self.capacity,
            "utilization_percent": round(100.0 * self.total / self.capacity, 2),
            "tier_a_count": self.tier_a_count,
            "tier_b_count": self.tier_b_count,
            "lingering": self.lingering,
            "ws_usage": self._wire.ws_usage(),
        }

    def _find(
        self,
        token: str,
        symbol: str | None,
        expiry: str | date | None,
        strike: float | None,
        option_type: str | None,
    ) -> Instrument:
        if symbol is None or expiry is None or strike is None:
            return self._registry.by_token(token)
        wanted = None if option_type is None else OptionType(option_type.upper())
        found = [
            each
            for each in self._registry.get_by_symbol_expiry(symbol, expiry)
            if each.option_type is wanted and each.strike == strike
        ]
        if not found:
            raise InstrumentUnknown(f"{symbol} {expiry} has no {strike:g} {option_type or ''}".rstrip(), token=token)
        with suppress(InstrumentUnknown):  # two exchanges may list it: the token tells which
            named = self._registry.by_token(token)
            return named if named in found else found[0]
        return found[0]

    def _take_by_token(self, instrument: Instrument) -> bool:
        if self._taken_by_token.get(instrument.token) in self._claims:
            return False
        admission = self.admit([instrument], self.chain_of(instrument))
        freed_by = {owner: victim.freed for victim in admission.victims for owner in victim.owners[:1]}
        wishes = {key: self._wishes[key].instrument for keys in freed_by.values() for key in keys}
        self._last_token_owner -= 1
        self.want(admission, self._last_token_owner)
        self._taken_by_token[instrument.token] = self._last_token_owner
        for victim in admission.victims:
            for owner in victim.owners:
                freed = tuple(wishes[key] for key in freed_by.get(owner, ()))
                self._swept.append(Swept(owner, f"evicted for {instrument.token}", evicted=True, freed=freed))
        return True

    def chain_of(self, instrument: Instrument) -> ChainKey:
        """The chain that a single instrument is evicted with."""
        kind = {InstrumentKind.OPTION: self._option_type(instrument), InstrumentKind.FUTURE: InstrumentType.FUTURE}
        instrument_type = kind.get(instrument.kind, InstrumentType.EQUITY)
        return ChainKey(instrument.exchange, instrument.symbol, instrument.expiry, instrument_type)

    def _option_type(self, instrument: Instrument) -> InstrumentType:
        if instrument.exchange is Exchange.MCX:
            return InstrumentType.COMMODITY_OPTION
        is_index = self._registry.index(instrument.symbol) is not None
        return InstrumentType.INDEX_OPTION if is_index else InstrumentType.STOCK_OPTION


def _tier(name: str) -> Tier:
    try:
        return Tier(name.upper())
    except ValueError:
        raise InvalidRequest(f"no such tier: {name!r}; TIER_A or TIER_B") from None


_DOOR = cast("SubscriptionManager", Door(SubscriptionManager, lambda service: service.subscriptions))


def get_subscription_manager() -> SubscriptionManager:
    """The running service's wishes: a door of the user's document."""
    return _DOOR
