"""One simulated day of the whole service under faults: ``python -m tests.sim.day --seed 7 --minutes 5``.

The same seed gives the same day, down to every message; its trace hash proves it. A seed that fails is written to
``regressions.txt``, which the tests run again for ever.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import hashlib
import random
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from structlog.testing import capture_logs

from app.sim.faults import Fault, FaultKind, TimedFault, make_fault, plan_faults
from app.sim.loop import SimLoop
from tests.sim.checks import Safety, unkept, unlike, unsettled
from tests.sim.mishaps import Mishaps
from tests.sim.pace import Spell, busy_after, joined
from tests.sim.people import Screen, Stranger, User
from tests.sim.stage import EXPIRY_DAY, FULL, NIGHT, SMALL, WIDE, Hours, Props, Shape, Stage, World, moment

REGRESSIONS = Path(__file__).with_name("regressions.txt")
DAY_MINUTES = 405.0  # 09:00 to 15:45
FULL_MINUTES = 3.0
DAY_FROM = 60.0  # a run of so many minutes is a day
EVEN_EVERY = 25  # seeds: one day of so many has full pace throughout, with people and faults further apart
SPELL_EVERY, SPELL_S = 50.0, 120.0  # minutes on average between the beginnings of two; how long one is
DAY_EDGES, EDGE_S = (0.0, 7.5, 14.5, 374.5, 389.5, 399.5), 60.0  # minutes after 09:00: opens, closes, auctions
COMPLAINTS_MAX = 20
SETTLE_S = 600.0  # 806 and 429 may keep a connection away for minutes
SETTLE_LOOK_S = 4.0  # not in step with the uses that are noted every five seconds and stored within the next
STANDSTILL_ROUNDS = 11  # of the publisher: the slowest rate is one in ten
EDGES = (
    (8, 43),
    (8, 57),
    (9, 11),
    (9, 13),
    (15, 13),
    (15, 27),
    (15, 28),
    (15, 33),
    (15, 38),
    (16, 57),
    (23, 52),
)  # a few minutes before a change
NIGHT_OF_EIGHT = 4  # seeds: one of eight is over midnight, which goes with lists that are kept
NIGHT_MINUTES = 4.0  # midnight comes after two, the morning's master up to 80 s later
WIDE_EVERY = 50  # seeds: one of so many has the wider world, at the service's own pace
HARD_FAULTS = (
    make_fault(FaultKind.CUT),
    make_fault(FaultKind.MUTE, seconds=40.0),
    make_fault(FaultKind.DISCONNECT, value=805.0),
    make_fault(FaultKind.TOKEN_EXPIRY),
)
LONG_KINDS = frozenset({FaultKind.REFUSE, FaultKind.DISCONNECT})  # what may keep a connection away for minutes


class Universe(StrEnum):
    """What is always on: a few dozen instruments on small limits, or the service's own, of some 8,500."""

    SMALL = "small"
    FULL = "full"


@dataclass(slots=True)
class Outcome:
    """How a day went."""

    seed: int
    minutes: float
    universe: Universe = Universe.SMALL
    trace: str = ""
    counts: Counter[str] = field(default_factory=Counter)
    settled_s: float = 0.0
    complaints: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        return not self.complaints


class Trace:
    """Everything that happened, as one number."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self.counts: Counter[str] = Counter()

    def note(self, kind: str, *what: object) -> None:
        self.counts[kind] += 1
        self._hash.update(repr((kind, what)).encode())

    def digest(self) -> str:
        return self._hash.hexdigest()


def shape_of(seed: int, minutes: float, universe: Universe = Universe.SMALL) -> Shape:
    """What the seed makes of the day."""
    rng = random.Random(f"shape {seed}")
    is_day = minutes >= DAY_FROM
    spells = _spells(seed, minutes) if is_day and seed % EVEN_EVERY else ()
    is_full = universe is Universe.FULL
    is_wide = not is_day and not seed % WIDE_EVERY and not is_full
    is_night = not (is_day or is_wide or is_full) and seed % 8 == NIGHT_OF_EIGHT
    has_night = is_night and minutes >= NIGHT_MINUTES
    world = FULL if is_full else WIDE if is_wide else NIGHT if has_night else SMALL
    limits = rng.choice(world.limits)
    is_roomy = limits.capacity > 5_000
    hours = _hours_of(rng, is_day=is_day)
    begins = rng.choice(EDGES) if hours in (Hours.MARKET, Hours.AUCTION) else (rng.randint(9, 15), rng.randint(16, 59))
    return Shape(
        seed=seed,
        epoch_s=moment(9, 0) if is_day else moment(23, 58, EXPIRY_DAY) if has_night else moment(*begins),
        hours=Hours.ALWAYS if has_night else hours,
        sets_clock=not is_day and rng.random() < 0.25,
        is_refused=not seed % 3,
        is_lossy=seed % 4 == 1,
        keeps=not seed % 4,
        limits=limits,
        world=world,
        users=rng.randint(2, 5),
        screens=rng.randint(1, 3),
        return_room=500 if is_roomy else limits.capacity // 8,
        return_after_s=rng.choice((10.0, 60.0)),
        rate=0.25 if is_wide else 0.03 if is_full else 0.1,
        step_s=0.25 if is_wide else 1.0 if is_day or is_full else rng.choice((0.5, 1.0)),
        publish_ms=250 if is_wide or not seed % 10 else 1000,
        is_lazy=not is_wide,
        is_native=bool(seed % 4),
        faults=tuple(_faults(rng, seed, minutes, world, spells)),
        spells=spells,
        gap_s=60.0 if is_day and not spells else 5.0,
    )


def _faults(
    rng: random.Random, seed: int, minutes: float, world: World, spells: tuple[Spell, ...]
) -> Iterator[TimedFault]:
    """In the busy spells, if there are any."""
    is_thin = minutes >= DAY_FROM and not spells
    busy_s = sum(ends - begins for begins, ends in spells) or minutes * 60.0
    kinds = [kind for kind in FaultKind if kind is not FaultKind.JUMP]
    if seed % 3:
        kinds = [kind for kind in kinds if kind not in LONG_KINDS]
    plan = plan_faults(seed, busy_s, rng.choice((120.0, 300.0) if is_thin else (8.0, 15.0, 30.0)), kinds)
    for symbol, _ in rng.sample(world.chains(), 4):
        jump = Fault(FaultKind.JUMP, symbol=symbol, value=rng.uniform(-0.06, 0.06))
        plan.append(TimedFault(rng.uniform(10.0, busy_s), jump))
    if not seed % 3:
        at_s = rng.uniform(0.0, busy_s)
        plan.append(TimedFault(at_s, Fault(FaultKind.DISCONNECT, value=float(rng.choice((810, 804, 814)))), pick=0))
    if world is FULL:  # few runs, each with what hurts most
        plan += [TimedFault(rng.uniform(0.2, 0.7) * busy_s, fault, pick=each) for each, fault in enumerate(HARD_FAULTS)]
    for each in plan:
        yield replace(each, at_s=busy_after(0.0, each.at_s, spells))


def _spells(seed: int, minutes: float) -> tuple[Spell, ...]:
    """Some at random, and the minutes in which markets open and close."""
    rng = random.Random(f"spells {seed}")
    begins = [rng.uniform(0.0, minutes * 60.0 - SPELL_S) for _ in range(round(minutes / SPELL_EVERY))]
    edges = [(60.0 * edge, 60.0 * edge + EDGE_S) for edge in DAY_EDGES if edge < minutes]
    return joined([*edges, *((begin, begin + SPELL_S) for begin in begins)])


def _hours_of(rng: random.Random, *, is_day: bool) -> Hours:
    if is_day:
        return rng.choice((Hours.ALWAYS, Hours.MARKET, Hours.AUCTION))
    return rng.choices(list(Hours), (12, 4, 4, 2, 1))[0]


class Play:
    """One day, from the start to the last timer."""

    def __init__(self, outcome: Outcome, props: Props, loop: SimLoop, shape: Shape) -> None:
        self.outcome = outcome
        self.trace = Trace()
        self._duration_s = outcome.minutes * 60.0
        self._loop = loop
        self._stage = Stage(shape, props, loop, self.complain)
        self._safety = Safety(self._stage)
        self._users = [
            User(each + 1, self._stage, self.trace.note, self.complain, unkept) for each in range(shape.users)
        ]
        self._stranger = Stranger(self._stage, self.trace.note, self.complain)
        self._screens = [Screen(each, self._stage, self.trace.note, self.complain) for each in range(shape.screens)]
        self._mishaps = Mishaps(self._stage, self._screens, shape.gap_s, self.trace.note)

    def complain(self, what: str) -> None:
        self.trace.note("complaint", what)
        if len(self.outcome.complaints) < COMPLAINTS_MAX:
            self.outcome.complaints.append(f"{self._loop.time():.1f} s: {what}")

    async def run(self) -> None:
        stage = self._stage
        await stage.open()
        gap_s = stage.shape.gap_s
        crowd = [self._loop.create_task(user.run(gap_s), name="play user") for user in self._users]
        crowd.append(self._loop.create_task(self._stranger.run(), name="play stranger"))
        screens = [self._loop.create_task(screen.run(), name="play screen") for screen in self._screens]
        mishaps = self._mishaps.start()
        pace = self._loop.create_task(stage.pace.run(), name="play pace")
        await self._watch(self._duration_s)
        for task in (pace, *crowd, *mishaps):
            task.cancel()
        await asyncio.wait([pace, *crowd, *mishaps])
        self._mishaps.heal()
        await stage.is_up.wait()
        await self._settle()
        await self._compare()
        self._loop_tasks_end(screens)
        await asyncio.wait(screens)
        await stage.close()
        await self._leave_nothing()

    async def _watch(self, seconds: float) -> None:
        """Look once a second, between two steps of the exchange."""
        end = self._loop.time() + seconds
        while self._loop.time() < end:
            await asyncio.sleep(int(self._loop.time()) + 1.2 - self._loop.time())
            for wrong in self._safety.look():
                self.complain(wrong)
            runtime = self._stage.runtime
            self.trace.note("second", self._loop.time(), runtime.subscriptions.total, runtime.ws_manager.connected)

    async def _settle(self) -> None:
        began = self._loop.time()
        while lacking := await unsettled(self._stage):
            if self._loop.time() - began > SETTLE_S:
                for each in lacking:
                    self.complain(f"not settled: {each}")
                break
            await self._watch(SETTLE_LOOK_S)
        self.outcome.settled_s = self._loop.time() - began

    async def _compare(self) -> None:
        await self._watch(12.0)  # the screens come back
        self._stage.is_frozen = True
        for is_last in (False, True):
            await asyncio.sleep(0.65 + STANDSTILL_ROUNDS * self._stage.shape.publish_ms / 1000)
            wrong = list(self._differences())
            if not wrong or is_last:  # a session may have begun a moment ago
                break
        for each in wrong:
            self.complain(each)
        self._stage.is_frozen = False

    def _differences(self) -> Iterator[str]:
        for screen in self._screens:
            if not screen.is_connected:
                yield "a screen is not connected"
            yield from unlike(self._stage, screen)

    def _loop_tasks_end(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()

    async def _leave_nothing(self) -> None:
        await asyncio.sleep(0.1)
        left = asyncio.all_tasks(self._loop) - {asyncio.current_task()}
        for task in sorted(left, key=repr):
            self.complain(f"a task is left: {task!r}")
        timers = [handle for handle in self._loop._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]
        for handle in timers:
            self.complain(f"a timer is left: {handle!r}")
        if self._loop.links:
            self.complain(f"{len(self._loop.links)} ends of connections are left")

    def sum_up(self) -> Outcome:
        exchange = self._stage.exchange
        self.trace.note("totals", sorted(exchange.totals.items()))
        counts = self.trace.counts
        counts.update(packets=exchange.totals["packets"], connects=exchange.totals["opened"])
        counts.update(refused=exchange.totals["refused"], prices=self._safety.prices_compared)
        counts.update(lives=self._stage.lives, most=self._safety.most_owned)
        self.outcome.counts = counts
        self.outcome.trace = self.trace.digest()
        return self.outcome


def simulate(seed: int, minutes: float, props: Props, universe: Universe = Universe.SMALL) -> Outcome:
    """One day in virtual time."""
    shape = shape_of(seed, minutes, universe)
    loop = SimLoop(seed, epoch_s=shape.epoch_s)
    asyncio.set_event_loop(loop)
    with capture_logs() as lines, warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        play = loop.run_until_complete(_prepare(Outcome(seed, minutes, universe), props, loop, shape))
        loop.set_exception_handler(lambda _loop, context: play.complain(_told(context)))
        try:
            loop.run_until_complete(loop.create_task(play.run(), name="play run"))
        except Exception as error:
            play.complain(f"the simulation broke: {error!r}")
        finally:
            _end(loop)
    for line in lines:
        if line["log_level"] in ("error", "critical"):
            play.complain(f"logged: {line}")
    return play.sum_up()


async def _prepare(outcome: Outcome, props: Props, loop: SimLoop, shape: Shape) -> Play:
    return Play(outcome, props, loop, shape)


def _told(context: dict[str, Any]) -> str:
    return f"{context['message']}: {context.get('exception')!r}"


def _end(loop: SimLoop) -> None:
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.wait(left, timeout=10.0))
    loop.close()
    asyncio.set_event_loop(None)
    gc.collect()


def told(outcome: Outcome, wall_s: float) -> str:
    """The outcome for people."""
    counts = ", ".join(f"{count} {name}" for name, count in sorted(outcome.counts.items()))
    head = f"seed {outcome.seed}, {outcome.universe}, {outcome.minutes:g} minutes in {wall_s:.1f} s: {counts}"
    verdict = "nothing wrong" if outcome.is_good else "\n  ".join(["WRONG", *outcome.complaints])
    return f"{head}\n  settled after {outcome.settled_s:.0f} s, trace {outcome.trace}\n  {verdict}"


def remember(outcome: Outcome) -> None:
    """Keep a failing seed; one line for each seed and length."""
    line = f"{outcome.seed} {outcome.minutes:g}"
    if outcome.universe is not Universe.SMALL:
        line += f" {outcome.universe}"
    known = REGRESSIONS.read_text("utf-8") if REGRESSIONS.exists() else ""
    if not any(each.split("#")[0].strip() == line for each in known.splitlines()):
        with REGRESSIONS.open("a", encoding="utf-8") as file:
            file.write(f"{line}  # {outcome.complaints[0]}\n")


def regressions() -> list[tuple[int, float, Universe]]:
    """Seeds that failed once, with their minutes and universe."""
    lines = (each.split("#")[0].split() for each in REGRESSIONS.read_text("utf-8").splitlines())
    return [(int(line[0]), float(line[1]), Universe(*line[2:] or (Universe.SMALL,))) for line in lines if line]


def main() -> int:
    """Run one seed and say what happened."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, help="a day of the small universe, three minutes of the full one")
    parser.add_argument("--universe", type=Universe, choices=list(Universe), default=Universe.SMALL)
    asked = parser.parse_args()
    minutes = asked.minutes or (FULL_MINUTES if asked.universe is Universe.FULL else DAY_MINUTES)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        outcome = simulate(asked.seed, minutes, Props(Path(directory)), asked.universe)
    print(told(outcome, time.monotonic() - began), flush=True)
    if not outcome.is_good:
        remember(outcome)
    return int(not outcome.is_good)


if __name__ == "__main__":
    sys.exit(main())
