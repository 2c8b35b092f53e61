"""The simulated exchange, watched: what it was asked for, what it last told of each instrument, and by which socket."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from app.core.ids import InstrumentKey
from app.dhan.codec import BadCommand, Subscribe, Unsubscribe, parse_command
from app.sim.exchange import Admission, Exchange
from app.sim.faults import FaultKind
from app.sim.line import Line
from app.sim.prices import Slots
from app.sim.smile import Floats

TOO_MANY_REQUESTS = 429
RATE_LIMIT_S = 59.0  # the service waits a minute at least
ALSO_COUNTS_S = 1.0  # handshakes that were under way
NOTICED_S = 0.5  # a connection that has gone is known to have gone
TOO_MANY_ASKED = "a message that the exchange does not take"


class WatchedExchange(Exchange):
    """Judges the service by its messages alone; ``wrong`` collects what no exchange should ever see."""

    def __init__(self, *args: Any, time_s: Callable[[], float]) -> None:
        super().__init__(*args)
        self._time_s = time_s
        self.limited_at_s = -1e9
        self.limited_until_s = 0.0
        self.unheard_until_s = 0.0  # who asked before then does not live to hear the answer
        self.wrong: list[str] = []
        self.messages = 0  # and connections that came and went
        self.asked: dict[int, set[InstrumentKey]] = {}  # by messages, whether they had an effect or not
        self.ghosts: dict[int, set[InstrumentKey]] = {}  # unsubscribed without effect
        self.most_lines = self.most_on_a_line = self.most_in_a_message = 0
        self._told = np.zeros(
            0, dtype=np.dtype([("ltp", "<f4"), ("line", "<i8"), ("newest", "<i8"), ("deaf_s", "<f8"), ("old", "?")])
        )

    @property
    def lines(self) -> dict[int, Line]:
        return self._lines

    def admit(self, target: str) -> Admission:
        now_s = self._time_s()
        if self.limited_at_s + ALSO_COUNTS_S < now_s < self.limited_until_s:
            self.wrong.append(f"a handshake {now_s - self.limited_at_s:.1f} s after the rate limit")
        answer = super().admit(target)
        if answer.status == TOO_MANY_REQUESTS and now_s >= max(self.limited_until_s, self.unheard_until_s):
            self.limited_at_s, self.limited_until_s = now_s, now_s + RATE_LIMIT_S
        return answer

    def open(self, admission: Admission, now_s: float) -> int:
        mine = [line for line in self._lines.values() if line.client_id == admission.client_id and line.end is None]
        if len(mine) >= self._config.connections_max:
            self.wrong.append(f"connection number {len(mine) + 1} of one account")
        number = super().open(admission, now_s)
        self.asked[number], self.ghosts[number] = set(), set()
        self.messages += 1
        self.most_lines = max(self.most_lines, min(len(mine), self._config.connections_max) + 1)
        return number

    def closed(self, number: int) -> None:
        if (line := self._lines.get(number)) is not None:
            self._forget_told(line)
        super().closed(number)
        self.asked.pop(number, None)
        self.messages += 1
        self.ghosts.pop(number, None)

    def _forget_told(self, line: Line) -> None:
        """Of what moved to the connection that has gone: until that is noticed the old one is not heard."""
        size = self._told.size
        is_elsewhere = np.zeros(size, dtype=np.bool_)
        for each in self._lines.values():
            if each is not line:
                is_elsewhere[np.flatnonzero(each.modes[:size])] = True
        moving = np.flatnonzero(line.modes[:size])
        unheard = moving[is_elsewhere[moving]]
        self._told["old"][unheard], self._told["deaf_s"][unheard] = True, self._time_s() + NOTICED_S

    def receive(self, number: int, text: str, now_s: float, heard_s: float = 0.0) -> None:
        line = self._lines.get(number)
        if line is not None and line.end is None:
            self._note(number, text)
        super().receive(number, text, now_s, heard_s)

    def _note(self, number: int, text: str) -> None:
        try:
            command = parse_command(text)
        except BadCommand as error:
            self.wrong.append(f"{TOO_MANY_ASKED}: {error}")
            return
        self.messages += 1
        asked = self.asked[number]
        if isinstance(command, Subscribe):
            asked.update(command.keys)
            self.ghosts[number].difference_update(command.keys)
            self.most_in_a_message = max(self.most_in_a_message, len(command.keys))
            self.most_on_a_line = max(self.most_on_a_line, len(asked))
            if len(asked) > self._config.instruments_max:
                self.wrong.append(f"{len(asked)} instruments asked for on one connection")
        elif isinstance(command, Unsubscribe):
            asked.difference_update(command.keys)
            if self._in_force(FaultKind.GHOST, number) is not None:
                self.ghosts[number].update(command.keys)

    def _account(self, line: Line, slots: Slots, image: Any) -> int:
        if image is not None and slots.size:
            if self._told.size < self.market.capacity:
                self._told = np.concatenate(
                    [self._told, np.zeros(self.market.capacity - self._told.size, self._told.dtype)]
                )
            ltp, ltt = (image[name][:: image.size // slots.size] for name in ("ltp", "ltt"))
            self._told["ltp"][slots] = ltp
            self._told["line"][slots] = line.number
            # Also after times to come that were not too far ahead to be believed: what traded hours ago and is shifted.
            is_older = ltt < self._told["newest"][slots]
            self._told["old"][slots] = is_older | (self._time_s() < self._told["deaf_s"][slots])
            self._told["newest"][slots] = np.maximum(self._told["newest"][slots], ltt)
        return super()._account(line, slots, image)

    def told(self) -> Floats:
        """By market slot the last price sent, NaN unless by the only connection that carries it, and not as an older
        one."""
        size = self._told.size
        carriers, carrier = np.zeros(size, dtype=np.intp), np.zeros(size, dtype=np.intp)
        for number, line in self._lines.items():
            here = np.flatnonzero(line.modes[:size])
            carriers[here] += 1
            carrier[here] = number
            carriers[[slot for key in self.ghosts[number] if (slot := self._slot_told(key)) is not None]] += 1
        told = self._told
        return np.where((carriers == 1) & (told["line"] == carrier) & ~told["old"], told["ltp"], np.nan)

    def _slot_told(self, key: InstrumentKey) -> int | None:
        slot = self.market.slot(key)
        return slot if slot is not None and slot < self._told.size else None

    def slots(self, keys: Iterable[InstrumentKey]) -> Slots:
        """Market slots of these keys, -1 for those of which nothing was ever told."""
        found = (self._slot_told(key) for key in keys)
        return np.array([-1 if slot is None else slot for slot in found], dtype=np.intp)

    def is_silent(self, key: InstrumentKey) -> bool:
        """Whether nothing is ever traded there."""
        slot = self.market.slot(key)
        return slot is not None and bool(self.market.silent[slot])
