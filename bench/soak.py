"""``make soak HOURS=n``: the service at 25,000 instruments for hours; memory, loop lag and the stream, every minute.

Samples are appended to ``soak/samples.jsonl``. A soak that was stopped is resumed by the same command: hours that are
there already count, and the service's new life is told from the old one. ``--fresh`` begins anew.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from bench.crowd import crowd
from bench.figures import p99
from bench.plot import Line, plot
from bench.world import Filled, World, cpu_s, memory_mb
from tests.service import ROOT

FOLDER = ROOT / "soak"
SAMPLE_S = 60.0
WATCH_S = 40.0
CLIENTS = 20
HZ = 10
WARM_UP_MIN = 15.0
SLOPE_MAX_MB_H = 1.0
STALL_MAX_MS = 50.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One minute. ``minute`` counts from the start of this life of the service."""

    life: int
    minute: float
    rss_mb: float
    loop_lag_max_ms: float
    gc_pause_max_ms: float
    packets_a_second: float
    subscriptions: int
    live: int
    cpu_share: float
    stream_share: float
    stream_gaps: int
    stream_age_p99_ms: float | None


@dataclass(frozen=True, slots=True)
class Plan:
    """``rate`` multiplies the simulator's own, which is about 1.75 packets an instrument a second."""

    hours: float
    rate: float
    instruments: int


class Soak:
    """Takes samples of one life of the service and appends them."""

    def __init__(self, world: World, filled: Filled, life: int, path: Path) -> None:
        self._world, self._filled, self._life, self._path = world, filled, life, path
        self._began_s = self._last_s = time.monotonic()
        self._packets = filled.metric("bt_feed_packets_total")
        self._cpu_s = cpu_s(filled.pid)

    def sample(self, sample_s: float, watch_s: float) -> Sample:
        """Wait for the rest of the minute, with stream clients that come and go, and write down how it was."""
        due_s = self._last_s + sample_s
        with crowd(self._filled.service, self._world, clients=CLIENTS, seconds=watch_s) as running:
            report = running.wait()
        time.sleep(max(0.0, due_s - time.monotonic()))
        taken = self._take(report)
        with self._path.open("a") as file:
            file.write(json.dumps(asdict(taken)) + "\n")
        return taken

    def _take(self, report: dict[str, Any]) -> Sample:
        now_s, filled = time.monotonic(), self._filled
        passed_s, self._last_s = now_s - self._last_s, now_s
        packets, used = filled.metric("bt_feed_packets_total"), cpu_s(filled.pid)
        rate, self._packets = (packets - self._packets) / passed_s, packets
        share, self._cpu_s = (used - self._cpu_s) / passed_s, used
        return Sample(
            life=self._life,
            minute=round((now_s - self._began_s) / 60, 2),
            rss_mb=round(memory_mb(filled.pid), 2),
            loop_lag_max_ms=round(filled.loop_lag_max_ms(), 2),
            gc_pause_max_ms=round(filled.metric("bt_gc_pause_max_ms"), 2),
            packets_a_second=round(rate),
            subscriptions=filled.total,
            live=filled.live(),
            cpu_share=round(share, 3),
            stream_share=round(report["messages"] / (CLIENTS * HZ * report["seconds"]), 4),
            stream_gaps=report["gaps"],
            stream_age_p99_ms=report["p99_ms"],
        )


def read_samples(path: Path) -> list[Sample]:
    """The samples of earlier runs; a last line cut short by a kill is left out."""
    if not path.exists():
        return []
    whole = [line for line in path.read_text().splitlines() if line.endswith("}")]
    return [Sample(**json.loads(line)) for line in whole]


def hours_in(samples: Sequence[Sample]) -> float:
    """Service hours that the samples cover."""
    last = {sample.life: sample.minute for sample in samples}
    return sum(last.values()) / 60


def slope_mb_h(samples: Sequence[Sample]) -> float | None:
    """Least squares over the longest life after its warm-up; None before there are enough samples."""
    lives: dict[int, list[Sample]] = {}
    for sample in samples:
        if sample.minute >= WARM_UP_MIN:
            lives.setdefault(sample.life, []).append(sample)
    longest = max(lives.values(), key=len, default=[])
    if len(longest) < 3:
        return None
    hours = np.array([sample.minute for sample in longest]) / 60
    return float(np.polyfit(hours, [sample.rss_mb for sample in longest], 1)[0])


def summary(samples: Sequence[Sample], asked_h: float) -> dict[str, object]:
    """The verdict, with what was really run."""
    slope = slope_mb_h(samples)
    warm = [sample for sample in samples if sample.minute >= WARM_UP_MIN] or list(samples)
    stall = max(sample.loop_lag_max_ms for sample in warm)
    return {
        "hours_asked": asked_h,
        "hours_run": round(hours_in(samples), 2),
        "lives": len({sample.life for sample in samples}),
        "slope_mb_per_hour": None if slope is None else round(slope, 3),
        "slope_met": None if slope is None else slope <= SLOPE_MAX_MB_H,
        "rss_mb": [min(sample.rss_mb for sample in warm), max(sample.rss_mb for sample in warm)],
        "longest_stall_ms": stall,
        "stall_met": stall <= STALL_MAX_MS,
        "packets_a_second": round(float(np.median([sample.packets_a_second for sample in warm]))),
        "cpu_share": round(float(np.median([sample.cpu_share for sample in warm])), 3),
        "stream_gaps": sum(sample.stream_gaps for sample in warm),
        "stream_share": round(min(sample.stream_share for sample in warm), 4),
        "stream_age_p99_ms": round(p99([sample.stream_age_p99_ms or 0.0 for sample in warm]), 1),
    }


def run(plan: Plan, path: Path, console: Console, sample_s: float, watch_s: float) -> list[Sample]:
    """Sample until the hours are full; what is there already counts."""
    samples = read_samples(path)
    life = 1 + max((sample.life for sample in samples), default=0)
    world = World(quick=False, say=lambda text: console.print(text))
    try:
        with world.service(BT_SIM_RATE=str(plan.rate)) as filled:
            filled.wait_live(min(8_000, plan.instruments))
            filled.fill(plan.instruments, world.chains(), lambda share: None)
            soak = Soak(world, filled, life, path)
            while hours_in(samples) < plan.hours:
                samples.append(soak.sample(sample_s, watch_s))
                console.print(told(samples[-1]))
    except KeyboardInterrupt:
        console.print("stopped; the same command goes on from here")
    finally:
        world.close()
    return samples


def told(sample: Sample) -> str:
    return (
        f"{sample.minute:7.1f} min  {sample.rss_mb:6.1f} MB  {sample.packets_a_second:7,.0f} packets/s"
        f"  {sample.live:,} live  lag {sample.loop_lag_max_ms:.0f} ms  cpu {sample.cpu_share:.0%}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--rate", type=float, default=1.15, help="of the simulator; 1.15 makes about 50,000 packets/s")
    parser.add_argument("--instruments", type=int, default=24_951, help="at least so many; chains of 50 are added")
    parser.add_argument("--sample-s", type=float, default=SAMPLE_S)
    parser.add_argument("--fresh", action="store_true", help="forget an earlier soak")
    given = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    path, console = FOLDER / "samples.jsonl", Console()
    if given.fresh:
        path.unlink(missing_ok=True)
    plan = Plan(given.hours, given.rate, given.instruments)
    samples = run(plan, path, console, given.sample_s, min(WATCH_S, given.sample_s / 2))
    if not samples:
        console.print("no sample was taken")
        return
    found = summary(samples, plan.hours)
    (FOLDER / "summary.json").write_text(json.dumps(found, indent=1))
    lines = [Line("resident memory, MB", [sample.rss_mb for sample in samples])]
    lines.append(Line("longest loop lag of the minute, ms", [sample.loop_lag_max_ms for sample in samples]))
    (FOLDER / "soak.svg").write_text(plot(lines, "minutes"))
    for name, value in found.items():
        console.print(f"{name:>20}  {value}")
    console.print("kept in soak/: samples.jsonl, summary.json, soak.svg")


if __name__ == "__main__":
    main()
