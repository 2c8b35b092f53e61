"""Keeps the stored rows in step with the books: built into a use case's commit, or written behind within a second.

The journal knows by token which contracts have a stored row, for ids may be given to others. What is owned without one
gets it, with a SUBSCRIBE line in the audit; a row without an owner goes, with an UNSUBSCRIBE line: so audit, rows and
books agree however they came apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from app.core.ids import InstrumentKey
from app.core.instruments import Instrument
from app.market.atm_engine import CachedWindow
from app.market.subscription_manager import SubscriptionManager
from app.market.wishes import Wish
from app.ports.clock import Clock
from app.ports.store import AtmRow, AuditAction, AuditRow, Changes, EntryRow, LegRow, StoredState

BATCH_ROWS = 400  # so that an add never waits long behind a batch
WRITTEN_BEHIND = "books"


class Journal:
    """Which rows are stored, and which are out of date."""

    def __init__(self, wishes: SubscriptionManager, clock: Clock, ws_id: Callable[[InstrumentKey], int | None]) -> None:
        self._wishes = wishes
        self._clock = clock
        self._ws_id = ws_id
        self._stored: set[str] = set()
        self._due: dict[str, None] = {}
        self._reasons: dict[str, str] = {}
        self._entries: set[int] = set()
        self._atm: dict[tuple[str, str, object], AtmRow] = {}

    def loaded(self, state: StoredState) -> None:
        """Rows found at start; those that turn out to have no owner are removed by :meth:`review`."""
        self._stored = {leg.token for leg in state.legs}

    def review(self) -> None:
        """Look at every stored row again: boot is over, or a day."""
        self._due.update(dict.fromkeys(self._stored))

    @property
    def has_work(self) -> bool:
        return bool(self._due or self._entries or self._atm or self._wishes.changed)

    def note_reason(self, tokens: Iterable[str], reason: str) -> None:
        """Why rows that are written behind changed."""
        self._reasons.update(dict.fromkeys(tokens, reason))

    def note_keys(self, keys: Iterable[InstrumentKey]) -> None:
        """Something in their rows changed, such as the connection."""
        wishes = (self._wishes.wish(key) for key in keys)
        self._due.update((wish.instrument.token, None) for wish in wishes if wish is not None)

    def note_entry(self, entry_id: int) -> None:
        self._entries.add(entry_id)

    def note_atm(self, row: AtmRow) -> None:
        self._atm[row.underlying_symbol, row.exchange, row.expiry] = row

    # -- rows for a use case's own commit ----------------------------------------------------------------------------

    def arriving(
        self, instruments: Iterable[Instrument], action: AuditAction, reason: str
    ) -> tuple[list[LegRow], list[AuditRow]]:
        """Rows and audit lines of instruments that have no row yet."""
        new = [each for each in instruments if each.token not in self._stored]
        now = self._clock.now()
        legs = [_leg(Wish(each, 0, now), None) for each in new]
        return legs, [AuditRow(action, each.token, reason, now) for each in new]

    def leaving(
        self, instruments: Iterable[Instrument], action: AuditAction, reason: str
    ) -> tuple[list[str], list[AuditRow]]:
        """Tokens and audit lines of instruments whose row goes."""
        gone = [each for each in instruments if each.token in self._stored]
        now = self._clock.now()
        return [each.token for each in gone], [AuditRow(action, each.token, reason, now) for each in gone]

    def committed(self, arrived: Sequence[LegRow], gone: Iterable[Instrument]) -> None:
        """A use case's commit came back."""
        self._stored.difference_update(each.token for each in gone)
        self._stored.update(leg.token for leg in arrived)

    # -- rows written behind ---------------------------------------------------------------------------------------

    def take(self, row_of: Callable[[int], EntryRow | None]) -> tuple[Changes, list[str]] | None:
        """The next batch, and the tokens it settles; None when all is stored. ``row_of`` gives an entry's present row.

        Caller: commits it, then calls :meth:`settled`, or :meth:`failed`.
        """
        changed, self._wishes.changed = self._wishes.changed, set()
        self._due.update(dict.fromkeys(changed))
        tokens = list(islice(self._due, BATCH_ROWS))
        for token in tokens:
            del self._due[token]
        legs: list[LegRow] = []
        removed: list[str] = []
        audit: list[AuditRow] = []
        now = self._clock.now()
        for token in tokens:
            wish = self._wishes.wish_of_token(token)
            if wish is not None:
                legs.append(_leg(wish, self._ws_id(wish.instrument.key)))
                if token not in self._stored:
                    audit.append(AuditRow(AuditAction.SUBSCRIBE, token, self._reason(token, wish), now))
            elif token in self._stored:
                removed.append(token)
                audit.append(AuditRow(AuditAction.UNSUBSCRIBE, token, self._reason(token, None), now))
        rows = [row for entry_id in sorted(self._entries) if (row := row_of(entry_id)) is not None]
        self._entries.clear()
        atm, self._atm = self._atm, {}
        changes = Changes(
            entries_updated=rows,
            leg_tokens_removed=removed,
            legs=legs,
            atm=tuple(atm.values()),
            audit=audit,
        )
        if not (rows or removed or legs or atm):
            return None
        return changes, tokens

    def settled(self, changes: Changes, tokens: Iterable[str]) -> None:
        """The batch is stored."""
        for token in tokens:
            self._reasons.pop(token, None)
        self._stored.difference_update(changes.leg_tokens_removed)
        self._stored.update(leg.token for leg in changes.legs)

    def failed(self, changes: Changes, tokens: Iterable[str]) -> None:
        """The batch is not stored: it comes again, newer values first."""
        self._due = dict.fromkeys(tokens) | self._due
        self._entries.update(row.id for row in changes.entries_updated)
        for row in changes.atm:
            self._atm.setdefault((row.underlying_symbol, row.exchange, row.expiry), row)

    def _reason(self, token: str, wish: Wish | None) -> str:
        if reason := self._reasons.get(token):
            return reason
        return WRITTEN_BEHIND if wish is None else f"{WRITTEN_BEHIND}: {wish.tier}"


def atm_row(window: CachedWindow) -> AtmRow:
    """Where a chain's window stands, as stored."""
    return AtmRow(
        underlying_symbol=window.chain.symbol,
        exchange=str(window.chain.exchange),
        expiry=window.chain.expiry,
        current_ltp=window.window.centre,
        atm_strike=window.atm_strike,
        strike_step=window.ladder.step,
        cached_at=window.centred_at,
        strikes=window.strikes,
    )


def _leg(wish: Wish, ws_id: int | None) -> LegRow:
    each = wish.instrument
    return LegRow(
        token=each.token,
        key=each.key,
        symbol=each.symbol,
        expiry=each.expiry,
        strike=each.strike,
        option_type=each.option_type,
        tier=wish.tier,
        subscribed_at=wish.since,
        ws_id=ws_id,
    )
