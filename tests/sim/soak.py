"""Memory over many simulated hours: ``python -m tests.sim.soak --hours 12``.

One life of the service on virtual time, with people who come, add, look, stall and leave for good, and connections that
fail. What Python holds is measured every quarter of an hour, after a collection; the verdict is the slope after a
warm-up. The store in memory stands for the database: its audit lines are pruned, as the service prunes its own.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import json
import logging
import random
import sys
import tempfile
import tracemalloc
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import structlog

from app.ports.feed import FeedLimits
from app.sim.faults import FaultKind, plan_faults
from app.sim.loop import SimLoop
from tests.sim.checks import Safety
from tests.sim.people import Screen, User
from tests.sim.stage import SMALL, Props, Shape, Stage, moment

RESULT = Path("soak/simulated.json")
SAMPLE_S = 900.0
WARM_UP_H = 1.0
GROWTH_MAX_KB_H = 100.0  # 2.4 MB in a day
FAULT_GAP_S = 240.0
BUSY_EVERY_S, BUSY_S = 1800.0, 600.0  # at full pace; in between timers ring late, and people only read
VISITOR_GAP_S = 240.0  # one new person so often, who stays for two and a half times as long
BETWEEN_STEPS_S = 1.2  # of the exchange: nothing is on its way then
TOLD = 12  # sites and types in the report
PASSING = (FaultKind.CUT, FaultKind.CLOSE, FaultKind.MUTE, FaultKind.GHOST, FaultKind.IGNORED_SUBSCRIBE,
           FaultKind.GARBAGE, FaultKind.TRUNCATED, FaultKind.BURST)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sample:
    """What is held at a simulated hour."""

    hour: float
    traced_kb: float
    objects: int
    tasks: int
    entries: int
    instruments: int


class Soak:
    """One life and its visitors."""

    def __init__(self, shape: Shape, props: Props, loop: SimLoop) -> None:
        self._loop = loop
        self._stage = Stage(shape, props, loop, self._complain)
        self._safety = Safety(self._stage)
        self._rng = random.Random(f"soak {shape.seed}")
        self._acts: Counter[str] = Counter()
        self._numbers = itertools.count(1)
        self._visits: set[asyncio.Task[None]] = set()
        self.samples: list[Sample] = []
        self.complaints: list[str] = []
        self.grown: list[str] = []

    def _complain(self, what: str) -> None:
        self.complaints.append(f"{self._loop.time() / 3600:.2f} h: {what}")

    def _note(self, kind: str, *_what: object) -> None:
        self._acts[kind] += 1

    async def run(self, hours: float) -> None:
        await self._stage.open()
        door = self._loop.create_task(self._let_in(), name="play door")
        pace = self._loop.create_task(self._stage.pace.run(), name="play pace")
        await asyncio.sleep(BETWEEN_STEPS_S)
        first: tuple[tracemalloc.Snapshot, Counter[str]] | None = None
        while self._loop.time() < hours * 3600.0:
            await asyncio.sleep(SAMPLE_S)
            self.complaints += [f"{self._loop.time() / 3600:.2f} h: {each}" for each in self._safety.look()]
            await self._stage.store.prune_audit(self._stage.clock.now() - timedelta(hours=1))
            self._sample()
            if first is None and self._loop.time() >= WARM_UP_H * 3600.0:
                first = _held()
        if first is not None:
            self.grown = _growth(first, _held(), self.samples[-1].hour - WARM_UP_H)
        works = [door, pace, *self._visits]
        for work in works:
            work.cancel()
        await asyncio.wait(works)
        await self._stage.close()

    async def _let_in(self) -> None:
        while True:
            await asyncio.sleep(self._rng.expovariate(1.0 / VISITOR_GAP_S))
            visit = self._loop.create_task(self._visit(next(self._numbers)), name="play visit")
            self._visits.add(visit)
            visit.add_done_callback(self._visits.discard)

    async def _visit(self, number: int) -> None:
        """Somebody comes, works with lists and looks at chains, and leaves with nothing behind."""
        user = User(number, self._stage, self._note, self._complain)
        screen = Screen(number, self._stage, self._note, self._complain)
        works = [self._loop.create_task(each, name="play person") for each in (user.run(30.0), screen.run())]
        try:
            await asyncio.sleep(self._rng.expovariate(1.0 / (2.5 * VISITOR_GAP_S)))
        finally:
            for work in works:
                work.cancel()
            await asyncio.wait(works)
            await user.leave_for_good()

    def _sample(self) -> None:
        gc.collect()
        runtime = self._stage.runtime
        sample = Sample(
            hour=round(self._loop.time() / 3600.0, 2),
            traced_kb=round(tracemalloc.get_traced_memory()[0] / 1024, 1),
            objects=len(gc.get_objects()),
            tasks=len(asyncio.all_tasks(self._loop)),
            entries=len(runtime.watchlists.book),
            instruments=runtime.subscriptions.total,
        )
        self.samples.append(sample)
        print(json.dumps(asdict(sample)), flush=True)

    def report(self, hours: float) -> dict[str, object]:
        """The verdict, with what it rests on."""
        slope = slope_kb_h(self.samples)
        is_met = slope is not None and slope <= GROWTH_MAX_KB_H and not self.complaints
        return {
            "hours": hours,
            "growth_kb_per_hour": slope,
            "growth_mb_in_24_hours": None if slope is None else round(24 * slope / 1024, 2),
            "limit_kb_per_hour": GROWTH_MAX_KB_H,
            "met": is_met,
            "visitors": next(self._numbers) - 1,
            "acts": dict(self._acts),
            "connects": self._stage.exchange.totals["opened"],
            "packets": self._stage.exchange.totals["packets"],
            "grown": self.grown,
            "complaints": self.complaints,
            "samples": [asdict(each) for each in self.samples],
        }


def slope_kb_h(samples: Sequence[Sample]) -> float | None:
    """Least squares after the warm-up; None before there are enough samples."""
    warm = [each for each in samples if each.hour >= WARM_UP_H]
    if len(warm) < 3:
        return None
    return round(float(np.polyfit([each.hour for each in warm], [each.traced_kb for each in warm], 1)[0]), 1)


def _held() -> tuple[tracemalloc.Snapshot, Counter[str]]:
    gc.collect()
    return tracemalloc.take_snapshot(), Counter(type(each).__qualname__ for each in gc.get_objects())


def _growth(
    before: tuple[tracemalloc.Snapshot, Counter[str]], after: tuple[tracemalloc.Snapshot, Counter[str]], hours: float
) -> list[str]:
    """Where most was added since the warm-up, by line and by type, a simulated hour."""
    lines = [each for each in after[0].compare_to(before[0], "lineno") if each.size_diff > 0][:TOLD]
    told = [f"{each.size_diff / 1024 / hours:.1f} KB/h at {_place(each)}" for each in lines]
    more = (after[1] - before[1]).most_common(TOLD)
    return told + [f"{count / hours:.1f} {name}/h" for name, count in more]


def _place(line: tracemalloc.StatisticDiff) -> str:
    frame = line.traceback[0]
    return f"{'/'.join(Path(frame.filename).parts[-3:])}:{frame.lineno}"


def _shape(seed: int, hours: float) -> Shape:
    return Shape(
        seed=seed,
        epoch_s=moment(0, 5),
        limits=FeedLimits(5, 55, 25),
        world=SMALL,
        return_room=30,
        return_after_s=60.0,
        rate=0.02,
        step_s=2.0,
        publish_ms=1000,
        is_lazy=True,
        is_native=True,
        faults=tuple(plan_faults(seed, hours * 3600.0, FAULT_GAP_S, PASSING)),
        spells=tuple(
            (begins_s, begins_s + BUSY_S) for begins_s in np.arange(0.0, hours * 3600.0, BUSY_EVERY_S).tolist()
        ),
    )


def main() -> int:
    """Run it, print the verdict and keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=12.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--result", type=Path, default=RESULT)
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    warnings.simplefilter("ignore", ResourceWarning)
    shape = _shape(asked.seed, asked.hours)
    loop = SimLoop(asked.seed, epoch_s=shape.epoch_s)
    asyncio.set_event_loop(loop)
    with tempfile.TemporaryDirectory() as directory:
        props = Props(Path(directory))
        tracemalloc.start()

        async def prepared() -> Soak:
            return Soak(shape, props, loop)

        soak = loop.run_until_complete(prepared())
        loop.run_until_complete(loop.create_task(soak.run(asked.hours), name="play soak"))
    loop.close()
    report = soak.report(asked.hours)
    asked.result.parent.mkdir(parents=True, exist_ok=True)
    asked.result.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps({name: value for name, value in report.items() if name != "samples"}, indent=1))
    return int(not report["met"])


if __name__ == "__main__":
    sys.exit(main())
