"""``python -m bench.report [run.json …]``: the tables of ``docs/performance.md`` from kept runs, as Markdown."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.figures import RESULTS, Figure, cells


def tables(run: dict[str, Any]) -> str:
    """One run: where, when, under what load, and its figures."""
    where = run["machine"]
    versions = ", ".join(f"{name} {value}" for name, value in where["versions"].items())
    load = f"Load {where['load'][0]} at the start, {run['load_at_end'][0]} at the end."
    lines = [
        f"{run['at'][:16].replace('T', ' ')}: {where['cores']} cores ({where['processor']}), {where['system']}, "
        f"Python {where['python']}, {versions}. {load}",
        "",
        "| row | what | figure | target | ratio | met | note |",
        "|---|---|--:|--:|--:|---|---|",
    ]
    lines += [f"| {' | '.join(cells(_figure(each)))} |" for each in run["figures"]]
    return "\n".join(lines) + "\n"


def _figure(kept: dict[str, Any]) -> Figure:
    return Figure(**{name: value for name, value in kept.items() if name != "met"})


def main(arguments: Sequence[str]) -> None:
    for path in [Path(each) for each in arguments] or [RESULTS / "latest.json"]:
        print(tables(json.loads(path.read_text())))


if __name__ == "__main__":
    main(sys.argv[1:])
