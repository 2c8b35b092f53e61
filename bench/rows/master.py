"""P6, P7: the instrument master and its search."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from urllib.parse import quote

import zstandard

from app.market.instrument_master.registry import InstrumentRegistry
from bench.figures import Figure, p50, p99
from bench.world import World
from tests.masters import REAL, REAL_DAY
from tests.service import LITERAL_DAY

EXACT = ("RELIANCE", "NIFTY", "BANKNIFTY", "TCS", "INFY", "GOLD", "HDFCBANK", "SBIN")
TYPOS = ("RELAINCE", "INFOSIS", "HDFCBNAK", "BANKNFITY", "BAJFINACE", "TATAMOTRS", "MARUTTI", "CRUDOIL")
SEARCH = "/api/v2/instruments/search?q={}"
READ_PEER = "csv.DictReader"
# Run in a fresh process each, so that neither finds the other's memory warm.
COLD = "import sys, time; from pathlib import Path; from app.market.instrument_master.scrip_csv import build_snapshot\n"
COLD += "t = time.perf_counter(); build_snapshot(Path(sys.argv[1]), Path(sys.argv[2])); print(time.perf_counter() - t)"
PEER = "import csv, sys, time\nt = time.perf_counter()\nwith open(sys.argv[1], newline='') as file:\n"
PEER += "    rows = {(r['EXCH_ID'], r['SEGMENT'], r['SECURITY_ID']): r for r in csv.DictReader(file)}\n"
PEER += "print(time.perf_counter() - t)"
WARM = """
import json, os, sys, time
from datetime import date
from pathlib import Path
from app.market.instrument_master.registry import InstrumentRegistry
def rss(): return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
def kept(): return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("RssAnon")) / 1024
before, anon, day = rss(), kept(), date.fromisoformat(sys.argv[2])
registry = InstrumentRegistry(lambda: day)
t = time.perf_counter(); registry.load(Path(sys.argv[1])); taken = time.perf_counter() - t
for symbol in registry.fo_stocks():
    for expiry in registry.expiries(symbol): registry.ladder(symbol, expiry)
registry.search("RELIANCE"); registry.search("RELAINCE")
print(json.dumps([taken * 1000, rss() - before, kept() - anon]))
"""


def _source(world: World) -> tuple[Path, date, str]:
    """An unpacked master: the real one of a day if it is there, else the generated one."""
    text = world.directory / "master.csv"
    if REAL.exists():
        raw = zstandard.ZstdDecompressor().stream_reader(REAL.read_bytes()).read()
        text.write_bytes(raw)
        return text, REAL_DAY, "the real master of 23 March 2026"
    from app.sim.master import write_master  # only where there is no real one

    day = date.fromisoformat(LITERAL_DAY)
    write_master(text, day, 1)
    return text, day, "generated master"


def _run(code: str, *arguments: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=True
    )
    return done.stdout


def master(world: World) -> list[Figure]:
    """P6."""
    source, day, name = _source(world)
    snapshot = world.directory / "bench.snapshot"
    rounds = 1 if world.quick else 3
    ours, theirs, warm = [], [], []
    for _ in range(rounds):
        ours.append(float(_run(COLD, source, snapshot)))
        theirs.append(float(_run(PEER, source)))
        warm.append(json.loads(_run(WARM, snapshot, day.isoformat())))
    cold, peer = p50(ours), p50(theirs)
    with source.open(newline="") as file:
        rows = sum(1 for _ in file) - 1
    note = f"{rows:,} rows, {name}"
    return [
        Figure("P6", "master, cold build", cold, "s", 1.0, ratio=peer / cold, peer=READ_PEER, note=note),
        Figure("P6", "cold build against DictReader", peer / cold, "x", 4.0, at_least=True),
        Figure("P6", "master, warm start", p50([each[0] for each in warm]), "ms", 50.0),
        Figure("P6", "memory added", p50([each[1] for each in warm]), "MB", 30.0, note="every ladder and search used"),
        Figure("P6", "of it not backed by the file", p50([each[2] for each in warm]), "MB"),
    ]


def _timed(
    find: Callable[[str], object], words: tuple[str, ...], rounds: int, clock: Callable[[], float] = time.thread_time
) -> list[float]:
    """Milliseconds a word, of this thread's CPU unless another clock is given."""
    taken = []
    for _ in range(rounds):
        for word in words:
            began = clock()
            find(word)
            taken.append((clock() - began) * 1000)
    return taken


def search(world: World) -> list[Figure]:
    """P7."""
    full = world.full()
    registry: InstrumentRegistry = world.registry
    rounds = 20 if world.quick else 200
    registry.search("RELAINCE")
    exact, typo = (_timed(registry.search, words, rounds) for words in (EXACT, TYPOS))
    over = [
        _timed(lambda word: full.caller.get_bytes(SEARCH.format(quote(word))), words, rounds // 4, time.perf_counter)
        for words in (EXACT, TYPOS)
    ]
    scan = _scan(registry)
    peer = p50(_timed(scan, EXACT, 5))
    return [
        Figure(
            "P7",
            "search, exact, p99",
            p99(exact),
            "ms",
            0.1,
            ratio=peer / p50(exact),
            peer="scan of names (p50)",
            note=f"p50 {p50(exact):.3f} ms",
        ),
        Figure("P7", "search, typo, p99", p99(typo), "ms", 3.0, note=f"p50 {p50(typo):.2f} ms"),
        Figure("P7", "search over HTTP, exact, p99", p99(over[0]), "ms", 8.0, note=f"p50 {p50(over[0]):.2f} ms"),
        Figure("P7", "search over HTTP, typo, p99", p99(over[1]), "ms", 8.0, note=f"p50 {p50(over[1]):.2f} ms"),
    ]


def _scan(registry: InstrumentRegistry) -> Callable[[str], list[str]]:
    """What is written first: look at every symbol."""
    listed = list(registry.symbols())
    return lambda word: [symbol for symbol in listed if word in symbol][:20]
