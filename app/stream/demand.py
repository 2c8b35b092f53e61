"""What hubs ask of the publisher, as messages on the bus, and the books the publisher keeps of it. Pure.

A hub says so when its first client wants a sequence and when its last one has left, and repeats the whole now and then:
a hub that falls silent is forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

import orjson

from app.stream.topics import RATES_HZ, Format, StreamKey

WANT_SUBJECT = "want.stream"
EVENT_SUBJECT = "events"
TICKS_SUBJECT = "ticks.>"


class Op(StrEnum):
    ALL = "all"  # the hub's whole demand, in place of what it said before
    ADD = "add"
    DROP = "drop"
    ASK = "ask"  # for a snapshot at the present number


@dataclass(frozen=True, slots=True)
class Want:
    """One message of a hub. Told with ``ALL``: ``heads``, the newest number heard of each key, 0 for none, so that what
    was lost on the way can be made up for; ``shown``, the topics that put chains on screens."""

    hub: str
    op: Op
    keys: tuple[StreamKey, ...]
    heads: tuple[int, ...] = ()
    shown: tuple[str, ...] = ()

    def pack(self) -> bytes:
        keys = [tuple(key) for key in self.keys]
        told = {"hub": self.hub, "op": self.op, "keys": keys, "heads": self.heads, "shown": self.shown}
        return orjson.dumps(told)


def unpack_want(payload: bytes) -> Want:
    """Raises ``ValueError`` for bytes that are no such message."""
    try:
        raw = orjson.loads(payload)
        keys = tuple(StreamKey(str(topic), _rate(hz), Format(form)) for topic, hz, form in raw["keys"])
        heads, shown = tuple(map(int, raw["heads"])), tuple(map(str, raw["shown"]))
        if heads and len(heads) != len(keys):
            raise ValueError(f"{len(heads)} heads of {len(keys)} keys")
        return Want(str(raw["hub"]), Op(raw["op"]), keys, heads, shown)
    except (KeyError, TypeError) as bad:
        raise ValueError(f"not a message of a hub: {bad}") from bad


def _rate(hz: object) -> int:
    if not isinstance(hz, int) or hz not in RATES_HZ:
        raise ValueError(f"no such rate: {hz!r}")
    return hz


@dataclass(slots=True)
class _Hub:
    heard_s: float
    keys: set[StreamKey] = field(default_factory=set)
    shown: tuple[str, ...] = ()


class Demand:
    """OWNS which sequences some hub wants."""

    def __init__(self, forget_after_s: float) -> None:
        self._forget_after_s = forget_after_s
        self._hubs: dict[str, _Hub] = {}

    def hear(self, want: Want, now_s: float) -> None:
        hub = self._hubs.setdefault(want.hub, _Hub(now_s))
        hub.heard_s = now_s
        if want.op is Op.ALL:
            hub.keys = set(want.keys)
            hub.shown = want.shown
        elif want.op is Op.DROP:
            hub.keys.difference_update(want.keys)
        else:
            hub.keys.update(want.keys)

    def forget_silent(self, now_s: float) -> None:
        for name in [name for name, hub in self._hubs.items() if now_s - hub.heard_s > self._forget_after_s]:
            del self._hubs[name]

    def is_wanted(self, key: StreamKey) -> bool:
        return any(key in hub.keys for hub in self._hubs.values())

    def keys(self) -> set[StreamKey]:
        return set().union(*(hub.keys for hub in self._hubs.values()))

    def shown(self) -> Iterable[str]:
        return {name for hub in self._hubs.values() for name in hub.shown}
