"""From what is wished to what is sent: placement, the difference, and bounded commands. Pure.

The full difference of 25,000 keys is taken only when a connection comes up; between, its owner keeps the difference
itself up to date, so that a swap of 50 costs 50. Both give the same commands.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from app.core.ids import InstrumentKey, Mode

SCAN_FACTOR = 4  # how far ahead of a batch to look for keys of the same mode


@dataclass(frozen=True, slots=True)
class Command:
    """One message to one connection: at most ``instruments_per_message`` keys of one mode."""

    subscribe: bool
    mode: Mode
    keys: tuple[InstrumentKey, ...]


class Difference(NamedTuple):
    """What one connection lacks and what it carries too much."""

    adds: dict[InstrumentKey, Mode]
    drops: dict[InstrumentKey, Mode]


class Shift(NamedTuple):
    """``number`` keys go from one connection to another (0-based)."""

    source: int
    target: int
    number: int


def place(loads: Sequence[int], open_to: Collection[int], limit: int) -> int | None:
    """The least loaded connection with room, the lowest number on ties; None where all are full.

    While the total stays below ``len(loads) - 1`` connections' worth, the answer has at least a fifth of its room left:
    that is the reserve for moves.
    """
    best: int | None = None
    for index, load in enumerate(loads):
        if index in open_to and load < limit and (best is None or load < loads[best]):
            best = index
    return best


def level(loads: Sequence[int], open_to: Collection[int]) -> list[Shift]:
    """The fewest moves after which no two open connections differ by more than one key."""
    places = sorted(open_to)
    if not places:
        return []
    share, extra = divmod(sum(loads[index] for index in places), len(places))
    fullest_first = sorted(places, key=lambda index: (-loads[index], index))
    goal = {index: share + (rank < extra) for rank, index in enumerate(fullest_first)}
    surplus = [[index, loads[index] - goal[index]] for index in places if loads[index] > goal[index]]
    lack = [[index, goal[index] - loads[index]] for index in places if loads[index] < goal[index]]
    shifts: list[Shift] = []
    while surplus and lack:
        count = min(surplus[0][1], lack[0][1])
        shifts.append(Shift(surplus[0][0], lack[0][0], count))
        for side in (surplus, lack):
            side[0][1] -= count
            if side[0][1] == 0:
                side.pop(0)
    return shifts


def difference(wished: Mapping[InstrumentKey, Mode], carried: Mapping[InstrumentKey, Mode]) -> Difference:
    """Compare the whole of one connection; a key carried in another mode is dropped and added."""
    return Difference(
        adds={key: mode for key, mode in wished.items() if carried.get(key) != mode},
        drops={key: mode for key, mode in carried.items() if wished.get(key) != mode},
    )


def next_command(
    carried: int,
    adds: Mapping[InstrumentKey, Mode],
    drops: Mapping[InstrumentKey, Mode],
    limit: int,
    batch: int,
    again: Mapping[InstrumentKey, Mode] | None = None,
) -> Command | None:
    """The next message, or None: adds first while there is room (make before break), else drops to make room.

    ``again`` is carried already and takes no room; it is asked for once more when there is nothing else to say.
    """
    room = limit - carried
    if adds and room > 0:
        return _batch(True, adds, min(batch, room))
    if drops:
        return _batch(False, drops, batch)
    return _batch(True, again, batch) if again else None


def plan(
    wished: Mapping[InstrumentKey, Mode], carried: Mapping[InstrumentKey, Mode], limit: int, batch: int
) -> Iterator[Command]:
    """Every message that makes one connection carry what is wished of it, one at a time, so that a caller may pause.

    A key in the wrong mode leaves before it comes again.
    """
    adds, drops = difference(wished, carried)
    waiting = {key: adds.pop(key) for key in drops if key in adds}
    count = len(carried)
    while command := next_command(count, adds, drops, limit, batch):
        pending = adds if command.subscribe else drops
        for key in command.keys:
            del pending[key]
            if not command.subscribe and key in waiting:
                adds[key] = waiting.pop(key)
        count += len(command.keys) if command.subscribe else -len(command.keys)
        yield command


def _batch(subscribe: bool, pending: Mapping[InstrumentKey, Mode], size: int) -> Command:
    ahead = islice(pending.items(), size * SCAN_FACTOR)
    first_key, mode = next(ahead)
    keys = [first_key]
    for key, other in ahead:
        if len(keys) == size:
            break
        if other is mode:
            keys.append(key)
    return Command(subscribe, mode, tuple(keys))
