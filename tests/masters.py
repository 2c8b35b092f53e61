"""Registries for tests: on the small fixture, on a generated master, on the real one where it is."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from app.market.instrument_master.registry import InstrumentRegistry
from app.market.instrument_master.scrip_csv import build_snapshot

ROOT = Path(__file__).resolve().parents[1]
SMALL = ROOT / "tests" / "fixtures" / "master_small.csv"
SMALL_DAY = date(2026, 2, 3)
REAL = ROOT.parent / "shared" / "data" / "api-scrip-master-detailed.2026-03-23.csv.zst"
REAL_DAY = date(2026, 3, 23)


def registry_of(source: Path, day: date, directory: Path) -> InstrumentRegistry:
    """A registry loaded with a master, as of ``day``."""
    snapshot = directory / f"{source.name}.snapshot"
    build_snapshot(source, snapshot)
    registry = InstrumentRegistry(lambda: day)
    registry.load(snapshot)
    return registry


def small_registry(directory: Path) -> InstrumentRegistry:
    return registry_of(SMALL, SMALL_DAY, directory)
