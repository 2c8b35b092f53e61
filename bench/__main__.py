"""``make bench``: every target with its figure, and its peer where it has one, measured in one run.

``python -m bench [P1 P9 …] [--quick]``. Figures only: nothing here passes or fails.
"""

from __future__ import annotations

import argparse
import os
import traceback
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from bench.figures import Figure, keep, machine, table
from bench.rows import books, latency, master, options, process, stream, ticks
from bench.world import World

Row = Callable[[World], list[Figure]]
# In this order: what wants the machine for itself first, then what shares the filled service.
ROWS: tuple[tuple[frozenset[str], str, Row], ...] = (
    (frozenset({"P1", "P2"}), "tick path", ticks.ticks),
    (frozenset({"P13"}), "few instruments and many", ticks.growth),
    (frozenset({"P3"}), "socket to board at a steady pace", latency.latency),
    (frozenset({"P6"}), "instrument master", master.master),
    (frozenset({"P14"}), "volatility and Greeks", options.options),
    (frozenset({"P12"}), "second start", process.starts),
    (frozenset({"P4", "P13"}), "stream clients", stream.stream),
    (frozenset({"P5"}), "packets to browsers", latency.to_browsers),
    (frozenset({"P7"}), "search", master.search),
    (frozenset({"P8"}), "watchlist adds", books.adding),
    (frozenset({"P10"}), "reads", books.reads),
    (frozenset({"P11"}), "memory", process.memory),
    (frozenset({"P9"}), "five cuts", books.cuts),
)
TARGETS = [f"P{number}" for number in range(1, 15)]


def run(wanted: frozenset[str], *, quick: bool, console: Console) -> list[Figure]:
    """Measure the wanted rows, one after another."""
    chosen = [row for row in ROWS if row[0] & wanted]
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    found: list[Figure] = []
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=len(chosen))
        world = World(quick=quick, say=lambda text: progress.update(task, description=text))
        try:
            for names, title, row in chosen:
                progress.update(task, description=f"{' '.join(sorted(names))} {title}")
                found += _measured(row, names, title, world, console)
                progress.advance(task)
        finally:
            world.close()
    return sorted(found, key=lambda figure: int(figure.row[1:]))


def _measured(row: Row, names: frozenset[str], title: str, world: World, console: Console) -> list[Figure]:
    """One row; one that breaks is told and does not take the others with it."""
    try:
        return row(world)
    except Exception as error:  # whatever it is, it belongs into the table
        console.print(traceback.format_exc(), markup=False)
        return [Figure(name, title, None, "", note=f"broke: {type(error).__name__}") for name in sorted(names)]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "rows", nargs="*", metavar="row", type=str.upper, help=f"some of {' '.join(TARGETS)}; default all"
    )
    parser.add_argument("--quick", action="store_true", help="small loads and few rounds: shows that it works")
    given = parser.parse_args(arguments)
    unknown = sorted(set(given.rows) - set(TARGETS))
    if unknown:
        parser.error(f"no such row: {', '.join(unknown)}")
    console = Console(width=None if os.isatty(1) else 200)
    where = machine()
    figures = run(frozenset(given.rows or TARGETS), quick=given.quick, console=console)
    console.print(table(figures))
    console.print(" · ".join(f"{name} {value}" for name, value in where.items() if name != "versions"))
    path = keep(figures, where, quick=given.quick)
    console.print(f"kept in bench/results/{path.name}")


if __name__ == "__main__":
    main()
