"""``make soak HOURS=n``: the service at 25,000 instruments for hours; memory, loop lag and the stream, every minute.

Samples are appended to ``soak/samples.jsonl``. A soak that was stopped is resumed by the same command: hours that are
there already count, and the service's new life is told from the old one. ``--fresh`` begins anew, ``--publish`` puts
what is there into the documents and runs nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from bench.crowd import crowd
from bench.soak_report import OtherSamples, Sample, append, drawing, hours_in, publish, read_samples, summary
from bench.world import Filled, Machine, World, cpu_s, machine_time, memory_mb, waited_s
from tests.service import ROOT

FOLDER = ROOT / "soak"
SAMPLE_S = 60.0
WATCH_S = 40.0
CLIENTS = 20
HZ = 10
PRIORITY = 20  # of 99, in the real-time class
LOST_AT_EOD = 1_000  # so many fewer than planned are no change of a window


@dataclass(frozen=True, slots=True)
class Plan:
    """``rate`` multiplies the simulator's own, which is about 1.75 packets an instrument a second."""

    hours: float
    rate: float
    instruments: int
    sample_s: float

    @property
    def watch_s(self) -> float:
        return min(WATCH_S, self.sample_s / 2)


@dataclass(frozen=True, slots=True)
class Reading:
    """Counters that only rise, read together."""

    at_s: float
    packets: float
    rounds: float
    missed: float
    cpu_s: float
    waited_s: float
    machine: Machine


class Soak:
    """Takes samples of one life of the service."""

    def __init__(self, world: World, filled: Filled, plan: Plan, life: int) -> None:
        self._world, self._filled, self._plan, self._life = world, filled, plan, life
        self._last = self._read()
        self._began_s = self._last.at_s

    def sample(self) -> Sample:
        """Wait for the rest of the minute, with stream clients that come and go, and say how it was."""
        due_s = self._last.at_s + self._plan.sample_s
        with crowd(self._filled.service, self._world, clients=CLIENTS, seconds=self._plan.watch_s) as running:
            report = running.wait()
        self._fill_again()
        time.sleep(max(0.0, due_s - time.monotonic()))
        return self._take(report)

    def _fill_again(self) -> None:
        """At the end of the day all of Tier A leaves; users come back."""
        if self._filled.total < self._plan.instruments - LOST_AT_EOD:
            self._filled.fill(self._plan.instruments, self._world.chains(), lambda share: None)

    def _read(self) -> Reading:
        pid, metric = self._filled.pid, self._filled.metric
        return Reading(
            at_s=time.monotonic(),
            packets=metric("bt_feed_packets_total"),
            rounds=metric("bt_publish_rounds_total"),
            missed=metric("bt_publish_missed_total"),
            cpu_s=cpu_s(pid),
            waited_s=waited_s(pid),
            machine=machine_time(),
        )

    def _take(self, report: dict[str, Any]) -> Sample:
        filled, before = self._filled, self._last
        now = self._last = self._read()
        passed_s = now.at_s - before.at_s
        machine = now.machine.since(before.machine)
        return Sample(
            life=self._life,
            minute=round((now.at_s - self._began_s) / 60, 2),
            rss_mb=round(memory_mb(filled.pid), 2),
            loop_lag_max_ms=round(filled.loop_lag_max_ms(), 2),
            starved_ms=round(filled.metric("bt_loop_lag_max_waited_ms"), 2),
            own_lag_max_ms=round(filled.metric("bt_loop_lag_own_max_ms"), 2),
            gc_pause_max_ms=round(filled.metric("bt_gc_pause_max_ms"), 2),
            publish_rounds=round(now.rounds - before.rounds),
            publish_missed=round(now.missed - before.missed),
            packets_a_second=round((now.packets - before.packets) / passed_s),
            subscriptions=filled.total,
            live=filled.live(),
            cpu_share=round((now.cpu_s - before.cpu_s) / passed_s, 3),
            core_wait_share=round((now.waited_s - before.waited_s) / passed_s, 4),
            machine_busy=round(1 - machine.idle / machine.total, 3),
            steal_share=round(machine.stolen / machine.total, 4),
            stream_share=round(report["messages"] / (CLIENTS * HZ * report["seconds"]), 4),
            stream_gaps=report["gaps"],
            stream_age_p99_ms=report["p99_ms"],
        )


def run(plan: Plan, path: Path, console: Console) -> list[Sample]:
    """Sample until the hours are full; what is there already counts."""
    samples = read_samples(path)
    life = 1 + max((sample.life for sample in samples), default=0)
    if samples:
        console.print(f"{hours_in(samples):.2f} hours are there already; this is life {life} of the service")
    world = World(quick=False, say=lambda text: console.print(text))
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[left]}"))
    try:
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("filling", total=plan.hours, completed=hours_in(samples), left="")
            with world.service(BT_SIM_RATE=str(plan.rate)) as filled:
                console.print(prefer(filled.pid))
                filled.wait_live(min(8_000, plan.instruments))
                filled.fill(plan.instruments, world.chains(), lambda share: None)
                soak = Soak(world, filled, plan, life)
                while hours_in(samples) < plan.hours:
                    progress.update(task, description="soaking", completed=hours_in(samples), left=left(plan, samples))
                    samples.append(soak.sample())
                    append(path, samples[-1])
                    console.print(f"{told(samples[-1])}  {left(plan, samples)}")
    except KeyboardInterrupt:
        console.print("stopped; the same command goes on from here")
    finally:
        world.close()
    return samples


def prefer(pid: int) -> str:
    """Give service and simulator the cores before others, so that the machine's other work is not measured.

    A raised ``nice`` does not do on Linux: it shares the cores among sessions first, and a thread just woken may still
    wait 50 ms. The real-time class goes before all of it.
    """
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    try:
        for process, priority in ((pid, PRIORITY), *((int(child), PRIORITY // 2) for child in children)):
            for thread in Path(f"/proc/{process}/task").iterdir():
                os.sched_setscheduler(int(thread.name), os.SCHED_RR, os.sched_param(priority))
    except OSError as error:
        return f"service at the usual priority ({error.strerror}): other work on this machine shows in the stalls"
    return "service and simulator in the real-time class: before other work on this machine"


def left(plan: Plan, samples: Sequence[Sample]) -> str:
    minutes = max(0.0, (plan.hours - hours_in(samples)) * 60)
    return f"{minutes // 60:.0f} h {minutes % 60:02.0f} min left"


def told(sample: Sample) -> str:
    return (
        f"{sample.minute:7.1f} min  {sample.rss_mb:6.1f} MB  {sample.packets_a_second:7,.0f} packets/s"
        f"  {sample.live:,} live  stall {sample.loop_lag_max_ms:.0f} ms (own {sample.own_lag_max_ms:.0f})"
        f"  missed {sample.publish_missed}  cpu {sample.cpu_share:.0%}  machine {sample.machine_busy:.0%}"
    )


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--rate", type=float, default=1.15, help="of the simulator; 1.15 makes about 50,000 packets/s")
    parser.add_argument("--instruments", type=int, default=24_951, help="at least so many; chains of 50 are added")
    parser.add_argument("--sample-s", type=float, default=SAMPLE_S)
    parser.add_argument("--fresh", action="store_true", help="forget an earlier soak")
    parser.add_argument("--publish", action="store_true", help="put what is there into docs/performance.md")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    given = parsed(arguments)
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.default_int_handler)  # a shell starts background work deaf to SIGINT
    FOLDER.mkdir(exist_ok=True)
    path, console = FOLDER / "samples.jsonl", Console(width=None if os.isatty(1) else 160)
    if given.fresh:
        path.unlink(missing_ok=True)
    try:
        if given.publish:
            samples = read_samples(path)
        else:
            samples = run(Plan(given.hours, given.rate, given.instruments, given.sample_s), path, console)
    except OtherSamples as error:
        sys.exit(str(error))
    if not samples:
        sys.exit("no sample was taken")
    found = summary(samples, given.hours)
    (FOLDER / "summary.json").write_text(json.dumps(found, indent=1))
    (FOLDER / "soak.svg").write_text(drawing(samples))
    for name, value in found.items():
        console.print(f"{name:>32}  {value}")
    if given.publish:
        publish(samples, given.hours)
        console.print("put into docs/performance.md and docs/images/soak.svg")
    else:
        console.print("kept in soak/: samples.jsonl, summary.json, soak.svg; --publish puts it into the documents")


if __name__ == "__main__":
    main()
