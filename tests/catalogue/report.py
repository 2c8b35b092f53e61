"""Run the catalogue and write the times it measured into docs/reliability.md: ``python -m tests.catalogue.report``."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.catalogue.desk import TIMES_FILE
from tests.service import ROOT

DOCUMENT = ROOT / "docs" / "reliability.md"
NOTICED, WELL = 3, 4  # columns of its table


def measured(times: Path) -> dict[str, tuple[str, str]]:
    """Time to notice and to recover by test; the slowest where a test injects several."""
    worst: dict[str, tuple[float, float]] = {}
    for line in times.read_text().splitlines():
        told = json.loads(line)
        name = told["test"].split("[")[0]
        notice, recover = worst.get(name, (0.0, 0.0))
        worst[name] = (max(notice, told["notice_s"] or 0.0), max(recover, told["recover_s"]))
    return {name: (in_words(notice), in_words(recover)) for name, (notice, recover) in worst.items()}


def in_words(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if 0 < seconds < 1 else f"{seconds:.1f} s" if seconds else "-"


def with_times(text: str, times: dict[str, tuple[str, str]]) -> str:
    """The document with its two columns of times replaced where a test of the line measured them."""
    lines = []
    for line in text.splitlines():
        found = next((name for name in re.findall(r"::(\w+)`", line) if name in times), None)
        if line.startswith("|") and found is not None:
            cells = line.split("|")
            cells[NOTICED + 1], cells[WELL + 1] = (f" {each} " for each in times[found])
            line = "|".join(cells)
        lines.append(line)
    return "\n".join(lines) + "\n"


def main() -> int:
    with tempfile.TemporaryDirectory() as directory:
        times = Path(directory) / "times.jsonl"
        run = [sys.executable, "-m", "pytest", str(ROOT / "tests" / "catalogue")]
        outcome = subprocess.run(run, env={**os.environ, TIMES_FILE: str(times)}, cwd=ROOT).returncode
        if outcome == 0:
            DOCUMENT.write_text(with_times(DOCUMENT.read_text("utf-8"), measured(times)), "utf-8")
    return outcome


if __name__ == "__main__":
    sys.exit(main())
