"""What a soak's samples say: verdict, plot, and the section of ``docs/performance.md``."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from bench.figures import p99
from bench.plot import Line, plot
from tests.service import ROOT

WARM_UP_MIN = 15.0
# The broker's previous open interest is asked for chain by chain, one in three seconds: 500 chains take 25 minutes.
MEMORY_WARM_UP_MIN = 30.0
SLOPE_MAX_MB_H = 1.0
STALL_MAX_MS = 50.0
DOCUMENT = ROOT / "docs" / "performance.md"
PICTURE = ROOT / "docs" / "images" / "soak.svg"
BEGIN, END = "<!-- soak: written by python -m bench.soak --publish -->", "<!-- end of soak -->"


@dataclass(frozen=True, slots=True)
class Sample:
    """One minute. ``minute`` counts from the start of this life of the service.

    Of ``loop_lag_max_ms``, the longest stall of the minute, ``starved_ms`` went by while the loop was ready to run and
    no core was free; ``own_lag_max_ms`` is the longest with such waiting taken off. ``core_wait_share`` is that waiting
    over the whole minute, ``steal_share`` what the hypervisor took of the machine, ``machine_busy`` the share of all
    cores in use by anybody.
    """

    life: int
    minute: float
    rss_mb: float
    loop_lag_max_ms: float
    starved_ms: float
    own_lag_max_ms: float
    gc_pause_max_ms: float
    publish_rounds: int
    publish_missed: int
    packets_a_second: float
    subscriptions: int
    live: int
    cpu_share: float
    core_wait_share: float
    machine_busy: float
    steal_share: float
    stream_share: float
    stream_gaps: int
    stream_age_p99_ms: float | None


class OtherSamples(Exception):
    """The file holds samples of another version."""


def append(path: Path, sample: Sample) -> None:
    """Write a sample so that neither ``kill -9`` nor a power cut takes it back."""
    with path.open("a") as file:
        file.write(json.dumps(asdict(sample)) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_samples(path: Path) -> list[Sample]:
    """The samples of earlier runs. A last line cut short by a kill is taken off the file.

    Raises:
        OtherSamples: they have other fields.
    """
    if not path.exists():
        return []
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole)
    found = [json.loads(line) for line in whole.splitlines()]
    names = {field.name for field in fields(Sample)}
    if any(set(each) != names for each in found):
        raise OtherSamples(f"{path.name} is of another version; --fresh begins anew")
    return [Sample(**each) for each in found]


def hours_in(samples: Sequence[Sample]) -> float:
    """Service hours that the samples cover."""
    last = {sample.life: sample.minute for sample in samples}
    return sum(last.values()) / 60


def warm(samples: Sequence[Sample]) -> list[Sample]:
    """Those after the warm-up of their life; all of them while there are none."""
    return [sample for sample in samples if sample.minute > WARM_UP_MIN] or list(samples)


def slope_mb_h(samples: Sequence[Sample]) -> float | None:
    """Least squares over the longest life after its warm-up; None before there are enough samples."""
    lives: dict[int, list[Sample]] = {}
    for sample in samples:
        if sample.minute > MEMORY_WARM_UP_MIN:
            lives.setdefault(sample.life, []).append(sample)
    longest = max(lives.values(), key=len, default=[])
    if len(longest) < 3:
        return None
    hours = np.array([sample.minute for sample in longest]) / 60
    return float(np.polyfit(hours, [sample.rss_mb for sample in longest], 1)[0])


def summary(samples: Sequence[Sample], asked_h: float) -> dict[str, object]:
    """The verdict, with what was really run."""
    judged = warm(samples)
    slope = slope_mb_h(samples)
    worst = max(judged, key=lambda sample: sample.loop_lag_max_ms)
    own_ms = max(sample.own_lag_max_ms for sample in judged)
    missed = sum(sample.publish_missed for sample in judged)
    gaps = sum(sample.stream_gaps for sample in judged)
    over = [sample for sample in judged if sample.loop_lag_max_ms > STALL_MAX_MS]
    met = {
        "memory": None if slope is None else slope <= SLOPE_MAX_MB_H,
        "publish": missed == 0,
        "gaps": gaps == 0,
        "stalls": worst.loop_lag_max_ms <= STALL_MAX_MS,
        "stalls_own": own_ms <= STALL_MAX_MS,
    }
    return {
        "hours_asked": asked_h,
        "hours_run": round(hours_in(samples), 2),
        "lives": len({sample.life for sample in samples}),
        "met": met,
        "slope_mb_per_hour": None if slope is None else round(slope, 3),
        "rss_mb": [min(sample.rss_mb for sample in judged), max(sample.rss_mb for sample in judged)],
        "publish_rounds": sum(sample.publish_rounds for sample in judged),
        "publish_missed": missed,
        "stream_gaps": gaps,
        "stream_share": min(sample.stream_share for sample in judged),
        "stream_age_p99_ms": round(p99([sample.stream_age_p99_ms or 0.0 for sample in judged]), 1),
        "longest_stall_ms": worst.loop_lag_max_ms,
        "of_it_without_a_core_ms": worst.starved_ms,
        "longest_stall_of_its_own_ms": own_ms,
        "minutes_with_a_stall_over_50_ms": f"{len(over)} of {len(judged)}",
        "subscriptions": [min(sample.subscriptions for sample in judged), max(each.subscriptions for each in judged)],
        "packets_a_second": _median([sample.packets_a_second for sample in judged], 0),
        "cpu_share": _median([sample.cpu_share for sample in judged], 3),
        "core_wait_share": _median([sample.core_wait_share for sample in judged], 4),
        "machine_busy": _median([sample.machine_busy for sample in judged], 3),
        "steal_share": max(sample.steal_share for sample in judged),
    }


def _median(values: Sequence[float], digits: int) -> float:
    return round(float(np.median(values)), digits)


def drawing(samples: Sequence[Sample]) -> str:
    """The plot, as SVG."""
    return plot(
        [
            Line("resident memory, MB", [sample.rss_mb for sample in samples]),
            Line("packets a second, thousands", [sample.packets_a_second / 1000 for sample in samples]),
            Line("longest loop stall of the minute, ms", [sample.loop_lag_max_ms for sample in samples]),
            Line("the same without waiting for a core, ms", [sample.own_lag_max_ms for sample in samples]),
        ],
        "minutes",
    )


def section(found: dict[str, object]) -> str:
    """The verdict as Markdown."""
    met = found["met"]
    assert isinstance(met, dict)
    word = {True: "met", False: "**not met**", None: "too short to say"}
    slope = found["slope_mb_per_hour"]
    rows = [
        (
            f"memory slope after {MEMORY_WARM_UP_MIN:.0f} minutes",
            f"{'-' if slope is None else slope} MB/h",
            "≤ 1 MB/h",
            met["memory"],
        ),
        ("publish rounds missed", f"{found['publish_missed']} of {found['publish_rounds']:,}", "0", met["publish"]),
        ("gaps seen by stream clients", found["stream_gaps"], "0", met["gaps"]),
        ("longest loop stall", f"{found['longest_stall_ms']} ms", "≤ 50 ms", met["stalls"]),
        ("of it ready to run without a core", f"{found['of_it_without_a_core_ms']} ms", "", None),
        (
            "longest with such waiting taken off",
            f"{found['longest_stall_of_its_own_ms']} ms",
            "≤ 50 ms",
            met["stalls_own"],
        ),
    ]
    lines = ["| what | figure | target | |", "|---|--:|--:|---|"]
    lines += [f"| {what} | {figure} | {goal} | {word[judged] if goal else ''} |" for what, figure, goal, judged in rows]
    subscriptions, rss = found["subscriptions"], found["rss_mb"]
    assert isinstance(subscriptions, list)
    assert isinstance(rss, list)
    told = (
        f"{found['hours_run']} hours were run, in {found['lives']} life or lives of the service, at "
        f"{subscriptions[0]:,} to {subscriptions[1]:,} subscriptions and {found['packets_a_second']:,.0f} packets a "
        f"second (median), with 20 stream clients coming and going. Resident memory {rss[0]} to {rss[1]} MB, CPU "
        f"{found['cpu_share']:.1%} of a core, ready without a core {found['core_wait_share']:.2%} of the time; the "
        f"machine was {found['machine_busy']:.0%} busy. {found['minutes_with_a_stall_over_50_ms']} minutes had a stall "
        f"over 50 ms."
    )
    return "\n".join([told, "", *lines, "", "![Memory, load and stalls over the soak](images/soak.svg)"])


def publish(samples: Sequence[Sample], asked_h: float) -> None:
    """Put plot and verdict into the documents."""
    PICTURE.write_text(drawing(samples))
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{section(summary(samples, asked_h))}\n\n{END}{after}")
