"""Counts of endpoint 6, the health answer and the stream's ``status`` topic: one place, told the same everywhere."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from app.market.facts import Standing, StateReader
from app.market.states import STATES

if TYPE_CHECKING:
    from app.market.fill_gauge import FillGauge
    from app.market.live_prices import LivePrices, Slots
    from app.market.subscription_manager import SubscriptionManager
    from app.market.ws_manager import WebSocketManager
    from app.ports.clock import Clock


class _Population(NamedTuple):
    """Every owned instrument as columns, as of one state of the books."""

    as_of: tuple[object, ...]
    standing: Standing
    slots: Slots


class StatusTeller:
    """Counts every owned instrument by state. The columns are gathered anew only when the books have changed."""

    def __init__(
        self,
        subscriptions: SubscriptionManager,
        pool: WebSocketManager,
        states: StateReader,
        board: LivePrices,
        clock: Clock,
        fill: FillGauge,
    ) -> None:
        self._subscriptions = subscriptions
        self._pool = pool
        self._states = states
        self._board = board
        self._clock = clock
        self._fill = fill
        self._population: _Population | None = None

    def status(self) -> dict[str, object]:
        """Endpoint 6."""
        return {"subscriptions": self.counts(), "websocket": self._pool.get_status()}

    def counts(self) -> dict[str, object]:
        """The ``subscriptions`` member of endpoint 6, ready for JSON: its names are texts."""
        stats = self._subscriptions.get_ws_stats()
        usage = {str(number): load for number, load in self._pool.ws_usage().items()}
        forecast = asdict(self._fill.forecast())
        return {**stats, "ws_usage": usage, "states": self.states(), "forecast": forecast}

    def states(self) -> dict[str, int]:
        """How many owned instruments are in each state; states with none are left out."""
        population = self._gathered()
        if not len(population.slots):
            return {}
        codes = self._states.codes_at(population.standing, population.slots)
        counted = np.bincount(codes, minlength=len(STATES))
        return {str(state): int(count) for state, count in zip(STATES, counted, strict=True) if count}

    def _gathered(self) -> _Population:
        as_of = (self._subscriptions.revision, self._board.revision, self._clock.now().date())
        if self._population is None or self._population.as_of != as_of:
            slots = self._owned_slots()
            self._population = _Population(as_of, self._states.standing_at(slots), slots)
        return self._population

    def _owned_slots(self) -> Slots:
        """Every slot on the board but those that only linger."""
        is_owned = np.zeros(self._board.slots, dtype=np.bool_)
        slot_of = self._board.buffers.slot_of
        is_owned[np.fromiter(slot_of.values(), dtype=np.intp, count=len(slot_of))] = True
        is_owned[[slot_of[key.packed] for key in self._subscriptions.lingering_keys()]] = False
        return np.flatnonzero(is_owned)
