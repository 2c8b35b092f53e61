"""From the name of a topic to what it shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import date
from typing import Protocol

from app.core.errors import ExpiryUnknown, InstrumentUnknown, InvalidRequest
from app.core.instruments import Instrument
from app.market.atm_engine import ChainId
from app.market.live_prices import LivePrices
from app.stream.desk import Desk
from app.stream.face import Face
from app.stream.frames import Doc
from app.stream.sources import ChainSource, DepthSource, RowsSource, Source, StatusSource
from app.stream.topics import Kind, Topic


class Lookup(Protocol):
    """Names to instruments; the instrument registry is one. ``revision`` rises with every master."""

    @property
    def revision(self) -> int: ...
    def by_token(self, token: str) -> Instrument: ...


class ChainNames(Protocol):
    """Names to chains; ``ATMEngine`` is one."""

    def chain_id(self, symbol: str, expiry: date | str, exchange: str | None = None) -> ChainId: ...


class _Named:
    """The instruments of a topic's names, found anew with each master; one that it lists no more stays what it was.

    Raises:
        InstrumentUnknown: one of them is not listed.
    """

    def __init__(self, lookup: Lookup, names: Sequence[str]) -> None:
        self._lookup = lookup
        self._found = {name: lookup.by_token(name) for name in names}
        self._revision = lookup.revision

    def listed(self) -> Mapping[str, Instrument]:
        if self._revision != self._lookup.revision:
            self._revision = self._lookup.revision
            for name in self._found:
                with suppress(InstrumentUnknown):
                    self._found[name] = self._lookup.by_token(name)
        return self._found


Watchlist = Callable[[int, str | None], Mapping[str, Instrument]]


class Opener:
    """Checks topics and opens their sources.

    ``watchlist`` gives the rows of one list of a user, or of all, by token: cash lines and futures, for a chain entry
    its legs and its underlying; no rows for a list that is not there. ``status`` is endpoint 6.
    """

    def __init__(
        self,
        lookup: Lookup,
        chains: ChainNames,
        prices: LivePrices,
        face: Face,
        desk: Desk,
        *,
        watchlist: Watchlist,
        status: Callable[[], Doc],
    ) -> None:
        self._lookup = lookup
        self._chains = chains
        self._prices = prices
        self._face = face
        self._desk = desk
        self._watchlist = watchlist
        self._status = status

    def check(self, topic: Topic) -> None:
        """Raises ``InstrumentUnknown`` or ``ExpiryUnknown`` for a topic that names what is not listed."""
        if topic.kind is Kind.CHAIN:
            self._chain(topic)
        for token in topic.tokens:
            self._lookup.by_token(token)

    def open(self, topic: Topic, topic_id: int) -> Source:
        """Open the topic's source. Raises as :meth:`check`."""
        match topic.kind:
            case Kind.CHAIN:
                return ChainSource(topic.name, topic_id, self._chain(topic), self._desk, self._face)
            case Kind.QUOTES:
                quoted = _Named(self._lookup, topic.tokens)
                return RowsSource(topic.name, topic_id, quoted.listed, self._desk, self._face)
            case Kind.WATCHLIST:
                user_id, name = topic.user_id, topic.list_name
                return RowsSource(topic.name, topic_id, lambda: self._watchlist(user_id, name), self._desk, self._face)
            case Kind.DEPTH:
                (token,) = topic.tokens
                named = _Named(self._lookup, topic.tokens)
                return DepthSource(topic.name, topic_id, lambda: named.listed()[token], self._face, self._prices.depth)
            case Kind.STATUS:
                return StatusSource(topic.name, topic_id, self._status)
            case Kind.EVENTS:
                raise InvalidRequest("events have no picture")

    def chain_of(self, topic: Topic) -> ChainId | None:
        """The chain a topic puts on a screen; None for another topic, and for a chain that is listed no longer."""
        try:
            return self._chain(topic) if topic.kind is Kind.CHAIN else None
        except (InstrumentUnknown, ExpiryUnknown):
            return None

    def _chain(self, topic: Topic) -> ChainId:
        assert topic.expiry is not None
        return self._chains.chain_id(topic.symbol, topic.expiry, str(topic.exchange) if topic.exchange else None)
