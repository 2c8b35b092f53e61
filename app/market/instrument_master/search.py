"""Search of the master: read the query, look up by bisection, and only on a miss compare with forgiveness.

Exact and prefix lookups cost tens of microseconds; a typo costs a pass of rapidfuzz over what people search.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import islice

import numpy as np
import numpy.typing as npt
from rapidfuzz import process
from rapidfuzz.distance import OSA

from app.core.ids import InstrumentKind, OptionType
from app.market.instrument_master.layout import CALL, EXCHANGES, Lists
from app.market.instrument_master.query import Contract, read_contract
from app.market.instrument_master.table import Group, MasterTable, lines

QUERY_CHARS_MAX = 80
_SEARCHED = int(Lists.INDEX | Lists.SHARE | Lists.INDEX_DERIVATIVE | Lists.COMMODITY_DERIVATIVE)
_DERIVATIVES = int(
    Lists.INDEX_DERIVATIVE | Lists.STOCK_DERIVATIVE | Lists.COMMODITY_DERIVATIVE | Lists.CURRENCY_DERIVATIVE
)
_LAST = "\U0010ffff"
_SHORT_WORD = 4


@dataclass(frozen=True, slots=True)
class SearchHit:
    """One result. ``match``: exact, prefix, name, typo, or contract, which also has ``token`` or ``expiry``."""

    symbol: str
    count: int
    f_o_eligible: bool
    name: str
    match: str
    token: str | None = None
    expiry: date | None = None


class SearchIndex:
    """Search over one table."""

    def __init__(self, table: MasterTable) -> None:
        self._table = table
        self._uppers = table.uppers
        self._rank: npt.NDArray[np.uint32] = table.arrays["sym_rank"]
        self._words = lines(table.arrays["words"])
        self._word_start = table.arrays["word_start"]
        self._word_sym = table.arrays["word_sym"]
        self._forgiving: tuple[list[str], list[int]] | None = None
        self._words_from = 0

    def find(self, q: str, limit: int, today: date) -> list[SearchHit]:
        """Results, best first; none for a blank query."""
        words = q[:QUERY_CHARS_MAX].upper().replace("_", " ").split()
        if not words or limit < 1:
            return []
        exact, rest = self._leading_symbol(words)
        if exact is not None and rest:
            contract = read_contract(rest)
            if not contract.rest:
                hits = list(islice(self._contracts(exact, contract, today), limit))
                return hits or [self._hit(exact, "exact")]
        contract = read_contract(words)
        name_words = contract.rest if contract.rest and not contract.is_empty else words
        found = self._symbols(name_words, limit)
        if found and not contract.is_empty and name_words is contract.rest:
            hits = list(islice(self._contracts(found[0][0], contract, today), limit))
            return hits or [self._hit(*found[0])]
        return [self._hit(sym, match) for sym, match in found]

    def _leading_symbol(self, words: list[str]) -> tuple[int | None, list[str]]:
        """The symbol that as many of the first words as possible spell, and the words after it."""
        for taken in range(len(words), 0, -1):
            sym = self._table.find_symbol(" ".join(words[:taken]))
            if sym is not None:
                return sym, words[taken:]
        return None, words

    def _symbols(self, words: list[str], limit: int) -> list[tuple[int, str]]:
        text = " ".join(words)
        found: dict[int, str] = {}
        exact = self._table.find_symbol(text)
        if exact is not None:
            found[exact] = "exact"
        for sym in self._best(self._by_prefix(text), limit):
            found.setdefault(sym, "prefix")
        if len(found) < limit:
            for sym in self._best(self._by_name(words), limit):
                found.setdefault(sym, "name")
        if not found:
            found = dict.fromkeys(self._by_typo(text, limit), "typo")
        listed = ((sym, match) for sym, match in found.items() if self._table.is_listed(sym))
        return list(islice(listed, limit))

    def _by_prefix(self, text: str) -> npt.NDArray[np.int64]:
        return np.arange(bisect_left(self._uppers, text), bisect_left(self._uppers, text + _LAST))

    def _by_name(self, words: list[str]) -> npt.NDArray[np.int64]:
        """Symbols whose display name has, for each word, a word that begins so."""
        found: set[int] | None = None
        for word in words:
            low, high = bisect_left(self._words, word), bisect_left(self._words, word + _LAST)
            syms = set(self._word_sym[self._word_start[low] : self._word_start[high]].tolist())
            found = syms if found is None else found & syms
            if not found:
                break
        return np.fromiter(found or (), np.int64)

    def _best(self, syms: npt.NDArray[np.int64], limit: int) -> list[int]:
        """The first ``limit`` in the order of what people look for."""
        ranks = self._rank[syms]
        if syms.size > limit:
            chosen = np.argpartition(ranks, limit)[:limit]
            syms, ranks = syms[chosen], ranks[chosen]
        ordered: list[int] = syms[np.argsort(ranks)].tolist()
        return ordered

    def _by_typo(self, text: str, limit: int) -> list[int]:
        choices, syms = self._choices()
        cutoff = 1 if len(text) <= _SHORT_WORD else 2
        close = process.extract(text, choices, scorer=OSA.distance, score_cutoff=cutoff, limit=limit * 3)
        ordered = sorted(
            # At the same distance a symbol is likelier meant than a word of some name.
            (distance, place >= self._words_from, int(self._rank[syms[place]]), syms[place])
            for _, distance, place in close
        )
        return list(dict.fromkeys(sym for *_, sym in ordered))[:limit]

    def _choices(self) -> tuple[list[str], list[int]]:
        """Spellings to compare a typo with: symbols, and the longer words of index and derivative names."""
        if self._forgiving is None:
            searched = np.flatnonzero(self._table.flags & _SEARCHED).tolist()
            choices = [self._uppers[sym] for sym in searched]
            syms = list(searched)
            self._words_from = len(syms)
            for sym in np.flatnonzero(self._table.flags & _DERIVATIVES).tolist():
                for word in self._table.display_names[sym].upper().split():
                    if len(word) > _SHORT_WORD:
                        choices.append(word)
                        syms.append(sym)
            self._forgiving = choices, syms
        return self._forgiving

    def _contracts(self, sym: int, contract: Contract, today: date) -> Iterator[SearchHit]:
        """Contracts that fit, nearest expiry first; of the primary exchange unless the expiry is another's."""
        for group, expiry in self._groups(sym, contract, today):
            if contract.strike is None:
                token = self._table.token_at(sym, group, group.start) if contract.is_future else None
                yield self._hit(sym, "contract", token, expiry)
                continue
            for row in self._rows_at(group, contract):
                yield self._hit(sym, "contract", self._table.token_at(sym, group, row), expiry)

    def _groups(self, sym: int, contract: Contract, today: date) -> list[tuple[Group, date]]:
        kind = InstrumentKind.FUTURE if contract.is_future else InstrumentKind.OPTION
        first = today.toordinal()
        dated = [
            (group, expiry)
            for group in self._table.groups(sym)
            if group.kind is kind
            and group.expiry >= first
            and contract.allows(expiry := date.fromordinal(group.expiry))
        ]
        primary = min((EXCHANGES.index(group.exchange) for group, _ in dated), default=0)
        chosen = [pair for pair in dated if pair[0].exchange is EXCHANGES[primary]]
        chosen.sort(key=_by_expiry)
        return chosen

    def _rows_at(self, group: Group, contract: Contract) -> Sequence[int]:
        assert contract.strike is not None
        rows = self._table.rows_at(group, contract.strike)
        if contract.option_type is None:
            return rows
        code = CALL if contract.option_type is OptionType.CE else CALL + 1
        codes = self._table.option_codes(rows.start, rows.stop)
        return [row for row, each in zip(rows, codes, strict=True) if each == code]

    def _hit(self, sym: int, match: str, token: str | None = None, expiry: date | None = None) -> SearchHit:
        table = self._table
        return SearchHit(
            symbol=table.symbols[sym],
            count=table.counts[sym],
            f_o_eligible=table.flag_of[sym] & _DERIVATIVES != 0,
            name=table.display_names[sym],
            match=match,
            token=token,
            expiry=expiry,
        )


def _by_expiry(pair: tuple[Group, date]) -> date:
    return pair[1]
