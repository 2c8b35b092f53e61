"""Many simulated runs, one seed after another: ``python -m tests.sim.many --count 1000``.

Every finished run is a line in a ledger, and the same command goes on where it was stopped. A seed that fails is
printed and kept in ``regressions.txt``.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tests.sim.day import Outcome, Universe, remember, simulate, told
from tests.sim.stage import Props

LEDGER = Path("data/sim-ledger.jsonl")
SHORT_MINUTES = 5.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One finished run. ``cpu_s`` is what it cost, ``at`` when it ended (UTC)."""

    seed: int
    minutes: float
    is_good: bool
    cpu_s: float
    settled_s: float
    trace: str
    at: str
    complaint: str = ""
    universe: Universe = Universe.SMALL


class Ledger:
    """OWNS the file of finished runs; a line that was cut off by a kill is left out."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.entries = list(self._read())

    def _read(self) -> Iterator[Entry]:
        if not self._path.exists():
            return
        for line in self._path.read_text("utf-8").splitlines():
            try:
                yield Entry(**json.loads(line))
            except (ValueError, TypeError):
                continue

    def done(self, minutes: float, universe: Universe = Universe.SMALL) -> set[int]:
        """The seeds that were run at that length."""
        return {each.seed for each in self.entries if (each.minutes, each.universe) == (minutes, universe)}

    def add(self, entry: Entry) -> None:
        self.entries.append(entry)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write("\n" + json.dumps(asdict(entry)))  # on a line of its own, whatever a kill left before it


def entry_of(outcome: Outcome, cpu_s: float) -> Entry:
    return Entry(
        outcome.seed,
        outcome.minutes,
        outcome.is_good,
        round(cpu_s, 2),
        outcome.settled_s,
        outcome.trace,
        datetime.now(UTC).isoformat(timespec="seconds"),
        "" if outcome.is_good else outcome.complaints[0],
        outcome.universe,
    )


def run_many(
    seeds: Iterable[int], minutes: float, universe: Universe, processes: int
) -> Iterator[tuple[Outcome, float, float]]:
    """Outcomes as they come, each with its wall and CPU seconds; the processes share the masters on the disk."""
    with tempfile.TemporaryDirectory() as directory:
        work = ((seed, minutes, universe, Path(directory)) for seed in seeds)
        with multiprocessing.get_context("spawn").Pool(processes, _settle_heap) as pool:
            yield from pool.imap_unordered(_one, work)


def _settle_heap() -> None:
    """What was imported stays; what a run leaves behind is collected at its end, not in its middle."""
    gc.collect()
    gc.freeze()
    gc.disable()


def _one(job: tuple[int, float, Universe, Path]) -> tuple[Outcome, float, float]:
    began, began_cpu = time.monotonic(), time.process_time()
    seed, minutes, universe, directory = job
    outcome = simulate(seed, minutes, Props(directory), universe)
    return outcome, time.monotonic() - began, time.process_time() - began_cpu


def main() -> int:
    """Run the seeds that the ledger does not have yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1, help="the first")
    parser.add_argument("--minutes", type=float, default=SHORT_MINUTES)
    parser.add_argument("--universe", type=Universe, choices=list(Universe), default=Universe.SMALL)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--ledger", type=Path, default=LEDGER)
    asked = parser.parse_args()
    ledger = Ledger(asked.ledger)
    seeds = range(asked.seed, asked.seed + asked.count)
    left = [seed for seed in seeds if seed not in ledger.done(asked.minutes, asked.universe)]
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    with bar:
        task = bar.add_task("seeds", total=len(seeds), completed=len(seeds) - len(left))
        for outcome, wall_s, cpu_s in run_many(left, asked.minutes, asked.universe, asked.processes):
            ledger.add(entry_of(outcome, cpu_s))
            bar.advance(task)
            if not outcome.is_good:
                remember(outcome)
                print(told(outcome, wall_s), flush=True)
    wanted = set(seeds) & ledger.done(asked.minutes, asked.universe)
    alike = (each for each in ledger.entries if (each.minutes, each.universe) == (asked.minutes, asked.universe))
    newest = {each.seed: each for each in alike if each.seed in wanted}
    failed = sorted(seed for seed, each in newest.items() if not each.is_good)
    cpu_s = sum(each.cpu_s for each in newest.values())
    print(f"{len(newest)} seeds of {asked.minutes:g} minutes, {cpu_s:.0f} s of CPU; failed: {failed or 'none'}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
