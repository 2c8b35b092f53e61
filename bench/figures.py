"""What a benchmark row answers with, and how it is shown and kept."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from rich.table import Table

RESULTS = Path(__file__).parent / "results"
NAMES = ("numpy", "picows", "uvloop", "uvicorn", "websockets", "dhanhq", "polars")


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table.

    ``target`` is an upper limit of ``value`` in ``unit``, or a lower one where ``at_least``; None: shown for
    comparison only. ``value`` None: not measured, ``note`` says why. ``ratio`` is against ``peer`` in the same run.
    """

    row: str
    what: str
    value: float | None
    unit: str
    target: float | None = None
    at_least: bool = False
    ratio: float | None = None
    peer: str = ""
    note: str = ""

    @property
    def met(self) -> bool | None:
        """None where there is nothing to judge."""
        if self.value is None or self.target is None:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, min(len(ordered) - 1, round(share * len(ordered) + 0.5) - 1))]


def p50(values: Sequence[float]) -> float:
    return statistics.median(values)


def p99(values: Sequence[float]) -> float:
    return percentile(values, 0.99)


def machine() -> dict[str, object]:
    """Where this ran, without names of hosts or paths."""
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in NAMES},
        "load": [round(each, 2) for each in os.getloadavg()],
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


def table(figures: Sequence[Figure]) -> Table:
    shown = Table(title="Broking Terminal V2: targets and figures")
    for name in ("row", "what"):
        shown.add_column(name)
    for name in ("figure", "target", "ratio"):
        shown.add_column(name, justify="right")
    for name in ("met", "note"):
        shown.add_column(name)
    for figure in figures:
        shown.add_row(*cells(figure))
    return shown


def cells(figure: Figure) -> tuple[str, ...]:
    value = "not measured yet" if figure.value is None else f"{number(figure.value)} {figure.unit}"
    sign = "≥" if figure.at_least else "≤"
    target = "" if figure.target is None else f"{sign} {number(figure.target)} {figure.unit}"
    ratio = "" if figure.ratio is None else f"{number(figure.ratio)}x {figure.peer}"
    met = {None: "", True: "yes", False: "no"}[figure.met]
    return figure.row, figure.what, value, target, ratio, met, figure.note


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"


def keep(figures: Sequence[Figure], started: dict[str, object], *, quick: bool) -> Path:
    """Write one run as JSON; the newest is also there as ``latest.json``."""
    RESULTS.mkdir(exist_ok=True)
    at = datetime.now().astimezone()
    run = {
        "at": at.isoformat(timespec="seconds"),
        "quick": quick,
        "machine": started,
        "load_at_end": [round(each, 2) for each in os.getloadavg()],
        "figures": [asdict(figure) | {"met": figure.met} for figure in figures],
    }
    text = json.dumps(run, indent=1)
    path = RESULTS / f"run-{at:%Y%m%dT%H%M%S}.json"
    path.write_text(text)
    (RESULTS / "latest.json").write_text(text)
    return path
