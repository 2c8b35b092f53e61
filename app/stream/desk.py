"""Chains that somebody looks at: their legs, volatility, Greeks, summary and coverage, worked out once for all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from app.analytics.chain import DEFAULT_RATE, ChainInput, Side, Summary, analyse
from app.core.errors import TerminalError
from app.core.instruments import Instrument
from app.core.sessions import Calendar
from app.market.atm_engine import ChainId
from app.market.chain_view import ChainLegs
from app.market.states import InstrumentState, is_live_price
from app.ports.clock import Clock
from app.stream.face import Face, Rows
from app.stream.fields import FIELD_INDEX
from app.stream.frames import Doc, Floats
from app.stream.strip import DriverQuote, Timing, summary_doc

_SIDE_FIELDS = [FIELD_INDEX[name] for name in ("ltp", "bid", "ask", "oi", "volume")]
CHAINS_A_STEP = 4  # worked out together: about 2 ms
_LIVE = {InstrumentState.LIVE, InstrumentState.QUIET}
_OLD = {InstrumentState.STALE, InstrumentState.GAP}
_OLD_CODES = [state.code for state in _OLD]


class Chains(Protocol):
    """Where the legs of a chain come from; ``market.chain_view.ChainView`` is one."""

    @property
    def revision(self) -> object: ...
    def legs(self, chain: ChainId) -> ChainLegs: ...
    def forget(self, chain: ChainId) -> None: ...


@dataclass(slots=True)
class OpenChain:
    """One chain in use. ``generation`` rises when its legs become others."""

    legs: ChainLegs
    held: Rows  # every row acquired, to be released
    ce: Rows  # a row a strike, -1 where not listed
    pe: Rows
    spot: int  # -1 where there is none
    future: int
    shown_future: int
    strikes: Floats
    uses: int = 0
    generation: int = 0
    seen: int = -1  # stamp of the face when it was last worked out
    is_due: bool = False  # looked over since then
    summary: Doc = field(default_factory=dict)
    coverage: dict[str, object] = field(default_factory=dict)


class Desk:
    """OWNS the chains in use, counted by their users. A lazy one works them out only when they were looked over."""

    def __init__(
        self,
        chains: Chains,
        face: Face,
        clock: Clock,
        calendar: Calendar,
        rate: float = DEFAULT_RATE,
        *,
        is_lazy: bool = False,
    ) -> None:
        self._chains = chains
        self._face = face
        self._clock = clock
        self._calendar = calendar
        self._rate = rate
        self._is_lazy = is_lazy
        self._open: dict[ChainId, OpenChain] = {}
        self._revision: object = None

    def acquire(self, chain: ChainId) -> OpenChain:
        """The chain, worked out; each call is matched by one of :meth:`release`.

        Raises:
            InstrumentUnknown, ExpiryUnknown: no such chain is listed.
        """
        held = self._open.get(chain)
        if held is None:
            held = self._open[chain] = self._lay_out(self._chains.legs(chain))
            self._work_out([held])
        held.uses += 1
        return held

    def release(self, chain: ChainId) -> None:
        held = self._open[chain]
        held.uses -= 1
        if not held.uses:
            self._face.release(held.held)
            self._chains.forget(chain)
            del self._open[chain]
            held.held = held.held[:0]

    def look(self, chain: ChainId, others: Rows) -> OpenChain:
        """One chain in use as it is at this moment, for a desk that no publisher refreshes.

        ``others`` are further rows of its face to be brought up to date.
        """
        held = self._open[chain]
        self._follow(chain, held)
        self._face.bring(np.union1d(held.held, others))
        self._work_out([held])
        return held

    def follow(self) -> Iterator[None]:
        """Where a subscribed window or the master has changed, look over every chain, one in a step."""
        if self._revision == self._chains.revision:
            return
        self._revision = self._chains.revision
        yield from self.look_over(list(self._open.values()))

    def look_over(self, chains: Iterable[OpenChain]) -> Iterator[None]:
        """Whether they still show the right legs: a window that nobody subscribed moves with the spot."""
        for held in chains:
            if held.uses:  # it may have been let go between two steps
                self._follow(held.legs.chain, held)
                held.is_due = True
            yield

    def refresh(self, chains: Iterable[OpenChain]) -> Iterator[None]:
        """Work out those whose rows were made anew, in small steps."""
        due = [held for held in chains if held.is_due or not self._is_lazy]
        touched = [held for held in due if self._face.is_touched(held.held, held.seen)]
        for start in range(0, len(touched), CHAINS_A_STEP):
            self._work_out([held for held in touched[start : start + CHAINS_A_STEP] if held.uses])
            yield

    def _follow(self, chain: ChainId, held: OpenChain) -> None:
        try:
            legs = self._chains.legs(chain)
        except TerminalError:
            return  # no longer listed: what it last was stays on the screens
        if legs == held.legs:
            return
        anew = self._lay_out(legs)
        self._face.release(held.held)
        for name in ("legs", "held", "ce", "pe", "spot", "future", "shown_future", "strikes"):
            setattr(held, name, getattr(anew, name))
        held.generation += 1
        held.seen = -1

    def _lay_out(self, legs: ChainLegs) -> OpenChain:
        drivers = [each for each in (legs.underlying, legs.future, legs.shown_future) if each is not None]
        instruments = list(dict.fromkeys((*legs.instruments, *drivers)))
        rows = self._face.acquire(instruments)
        row_of = dict(zip((each.key for each in instruments), rows.tolist(), strict=True))

        def find(wanted: Iterable[Instrument | None]) -> Rows:
            return np.array([-1 if each is None else row_of[each.key] for each in wanted], dtype=np.intp)

        return OpenChain(
            legs=legs,
            held=rows,
            ce=find(legs.ce),
            pe=find(legs.pe),
            spot=int(find([legs.underlying])[0]),
            future=int(find([legs.future])[0]),
            shown_future=int(find([legs.shown_future])[0]),
            strikes=np.array(legs.strikes, dtype=np.float64),
        )

    def _work_out(self, chains: list[OpenChain]) -> None:
        inputs = [self._input(chain) for chain in chains]
        for chain, result in zip(chains, analyse(inputs, self._clock.now_ms(), self._rate), strict=True):
            self._face.put_greeks(chain.ce, result.calls)
            self._face.put_greeks(chain.pe, result.puts)
            chain.seen, chain.is_due = self._face.stamp, False
            chain.summary = self._summary(chain, result.summary)
            chain.coverage = self._coverage(chain)

    def _input(self, chain: OpenChain) -> ChainInput:
        calls, puts = (self._side(rows) for rows in (chain.ce, chain.pe))
        return ChainInput(
            strikes=chain.strikes,
            calls=calls,
            puts=puts,
            spot=self._face.cell(chain.spot, "ltp"),
            future=self._face.cell(chain.future, "ltp"),
            expiry_ms=chain.legs.expiry_ms,
        )

    def _side(self, rows: Rows) -> Side:
        block = self._face.block(rows)
        ltp, bid, ask, oi, volume = block.T[_SIDE_FIELDS]
        return Side(ltp, bid, ask, oi, volume, np.isin(block[:, FIELD_INDEX["state"]], _OLD_CODES))

    def _summary(self, chain: OpenChain, told: Summary) -> Doc:
        return summary_doc(
            chain.legs,
            told,
            self._quote(chain.spot),
            is_live=self._is_live(chain),
            future=self._quote(chain.shown_future),
            timing=self._timing(chain.legs),
        )

    def _is_live(self, chain: OpenChain) -> bool:
        """Whether the spot's price is of now: of the session that runs, on a connection that is there."""
        if chain.legs.underlying is None:
            return False
        session = self._calendar.latest_session(chain.legs.underlying.key.segment, self._clock.now())
        seen_ms = self._clock.now_ms() - self._face.cell(chain.spot, "age_ms")
        return is_live_price(self._face.cell(chain.spot, "state"), seen_ms, session)

    def _quote(self, row: int) -> DriverQuote:
        return DriverQuote(*(self._face.cell(row, name) for name in DriverQuote._fields))

    def _timing(self, legs: ChainLegs) -> Timing:
        now = self._clock.now()
        today = now.astimezone(self._calendar.zone).date()
        return Timing(self._calendar.phase(legs.segment, now), max(0, (legs.chain.expiry - today).days))

    def _coverage(self, chain: OpenChain) -> dict[str, object]:
        rows = np.concatenate((chain.ce, chain.pe))
        codes = self._face.column(rows[rows >= 0], "state").astype(np.int64)
        counts = dict(zip(InstrumentState, np.bincount(codes, minlength=len(InstrumentState)).tolist(), strict=True))
        return {
            "legs": len(rows),
            "live": sum(counts[state] for state in _LIVE),
            "never_traded": counts[InstrumentState.SENT],
            "stale": sum(counts[state] for state in _OLD),
            "missing": int((rows < 0).sum()),
            "closed": counts[InstrumentState.CLOSED],
            "wanted": counts[InstrumentState.WANTED],
            "not_subscribed": counts[InstrumentState.NOT_SUBSCRIBED],
            "evicted": counts[InstrumentState.EVICTED],
            "expired": counts[InstrumentState.EXPIRED],
        }
