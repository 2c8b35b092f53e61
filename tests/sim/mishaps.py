"""What goes wrong besides the exchange: the store, the machine's clock, and the process itself."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from app.sim.faults import FaultKind, make_fault
from app.stream.demand import WANT_SUBJECT
from tests.sim.people import Note, Screen
from tests.sim.stage import Stage, StoreTrouble

CLOCK_STEPS_S = (-7_200.0, -600.0, -90.0, -5.0, -1.0, 2.0, 30.0, 300.0, 7_200.0)  # the last as after a sleep
# Ahead by as much as the exchange's times may be for a while, there is no telling which of both is wrong.
CLOCK_WRONG_MAX_S = 4 * 3_600.0
AWAY_S = 18.0
MORNING_S = (125.0, 200.0)  # after the beginning: midnight is two minutes after it
LIMITED_S = 20.0  # how long handshakes are refused with 429


class Mishaps:
    """Seeded troubles, ``gap_s`` on average between two acts of a user; each kind comes much more rarely."""

    def __init__(self, stage: Stage, screens: Sequence[Screen], gap_s: float, note: Note) -> None:
        self._stage = stage
        self._screens = screens
        self._gap_s = gap_s
        self._note = note
        self._rng = random.Random(f"mishaps {stage.shape.seed}")

    def start(self) -> list[asyncio.Task[None]]:
        """One task for each kind of trouble that this run has."""
        kinds: list[Callable[[], Coroutine[Any, Any, None]]] = [self._lose_store, self._restart, self._keep_one_away]
        if self._stage.shape.sets_clock:
            kinds.append(self._set_clock)
        if self._stage.shape.is_refused:
            kinds.append(self._restart_while_limited)
        if self._stage.shape.is_lossy:
            kinds.append(self._lose_messages)
        if self._stage.shape.world.has_night:
            kinds.append(self._begin_new_day)
        return [self._stage.loop.create_task(kind(), name=f"play {kind.__name__}") for kind in kinds]

    def heal(self) -> None:
        self._stage.exchange.heal()
        self._stage.store.trouble_now = None
        self._stage.bus.heal()
        for screen in self._screens:
            screen.calm()

    async def _wait(self, gaps: float) -> None:
        await self._stage.pace.sleep(self._rng.expovariate(1.0 / (gaps * self._gap_s)))

    async def _lose_store(self) -> None:
        while True:
            await self._wait(12.0)
            trouble = self._rng.choice(list(StoreTrouble))
            self._stage.store.trouble_now = trouble
            self._note("store", trouble)
            await asyncio.sleep(self._rng.choice((0.1, 2.0, 15.0)))
            self._stage.store.trouble_now = None

    async def _restart(self) -> None:
        while True:
            await self._wait(30.0)
            await self._kill()

    async def _kill(self) -> None:
        self._note("restart")
        for screen in self._screens:
            screen.cut()
        await asyncio.shield(self._stage.loop.create_task(self._stage.restart(), name="play restart"))

    async def _keep_one_away(self) -> None:
        """Long enough for the others to take over what it carried: it comes back empty, and is given its share."""
        while True:
            await self._wait(15.0)
            self._note("away")
            exchange, now_s = self._stage.exchange, self._stage.server.now_s()
            exchange.inject(make_fault(FaultKind.REFUSE, seconds=AWAY_S, value=503.0), now_s)
            if exchange.lines:
                exchange.inject(make_fault(FaultKind.CUT, connection=self._rng.choice(list(exchange.lines))), now_s)

    async def _lose_messages(self) -> None:
        """Between the publisher and the hub, either way."""
        while True:
            await self._wait(1.0)
            streams = [key.subject for key in self._stage.runtime.outbound.hub._streams]
            self._note("lost")
            self._stage.bus.lose_next(self._rng.choice([WANT_SUBJECT, *streams]))

    async def _set_clock(self) -> None:
        while True:
            await self._wait(15.0)
            step_s = self._rng.choice(CLOCK_STEPS_S)
            if abs(self._stage.clock_step_s + step_s) > CLOCK_WRONG_MAX_S:
                step_s = -step_s
            self._note("clock set", step_s)
            self._stage.set_clock(step_s)

    async def _begin_new_day(self) -> None:
        """Once, some time after midnight."""
        await asyncio.sleep(self._rng.uniform(*MORNING_S))
        await self._stage.is_up.wait()
        self._note("new day")
        await self._stage.begin_new_day()

    async def _restart_while_limited(self) -> None:
        """The account's rate limit holds over a restart."""
        while True:
            await self._wait(40.0)
            self._note("limited")
            for fault in (make_fault(FaultKind.REFUSE, seconds=LIMITED_S, value=429.0), make_fault(FaultKind.CUT)):
                self._stage.exchange.inject(fault, self._stage.server.now_s())
            await asyncio.sleep(self._rng.uniform(0.5, 6.0))
            await self._kill()
