"""Who has to give way when the capacity is used up (contract, rule 5.5). Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Set
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

from app.core.ids import InstrumentKey
from app.ports.store import InstrumentType


class ChainKey(NamedTuple):
    """What is evicted together: all wishes, whoever's, for one expiry of one symbol on one exchange."""

    exchange: str
    symbol: str
    expiry: date | None
    instrument_type: InstrumentType


@dataclass(frozen=True, slots=True)
class Candidate:
    """A Tier A chain that may have to leave. ``claims`` maps each of its owners to the keys it holds."""

    chain: ChainKey
    claims: Mapping[int, Collection[InstrumentKey]]


@dataclass(frozen=True, slots=True)
class Victim:
    """A chain that leaves, and the instruments that nobody holds once it has left."""

    chain: ChainKey
    owners: tuple[int, ...]
    freed: tuple[InstrumentKey, ...]


def choose_victims(
    candidates: Iterable[Candidate],
    short: int,
    holders: Callable[[InstrumentKey], int],
    wanted: Set[InstrumentKey],
) -> list[Victim]:
    """The first of the candidates, in their order, that together free ``short`` instruments; empty if all cannot.

    ``holders`` tells how many own a key; one with an owner outside the candidates is never freed, and a key of the
    request itself frees nothing. A chain that frees nothing is spared.
    """
    left: dict[InstrumentKey, int] = {}
    chosen: list[Candidate] = []
    freed = 0
    for candidate in candidates:
        if freed >= short:
            break
        chosen.append(candidate)
        for keys in candidate.claims.values():
            for key in keys:
                left[key] = left.get(key, holders(key)) - 1
                freed += left[key] == 0 and key not in wanted
    if freed < short:
        return []
    return _describe(_without_idle(chosen, left, wanted), left, wanted)


def _without_idle(
    chosen: list[Candidate], left: Mapping[InstrumentKey, int], wanted: Set[InstrumentKey]
) -> list[Candidate]:
    # A key is freed only if every owner of it leaves, so a chain is idle exactly if none of its keys is freed.
    return [each for each in chosen if any(left[key] == 0 and key not in wanted for key in _keys(each))]


def _describe(chosen: list[Candidate], left: Mapping[InstrumentKey, int], wanted: Set[InstrumentKey]) -> list[Victim]:
    victims: list[Victim] = []
    told: set[InstrumentKey] = set()
    for each in chosen:
        freed = [key for key in _keys(each) if left[key] == 0 and key not in wanted and key not in told]
        told.update(freed)
        victims.append(Victim(each.chain, tuple(each.claims), tuple(freed)))
    return victims


def _keys(candidate: Candidate) -> list[InstrumentKey]:
    return list(dict.fromkeys(key for keys in candidate.claims.values() for key in keys))
