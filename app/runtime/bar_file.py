"""Keeps the session's bars over a restart: one file in the data directory, written anew every minute or two."""

from __future__ import annotations

import asyncio
import io
import zipfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np
import orjson
import structlog

from app.stream.minute_bars import AGGREGATES, MINUTES_MAX, PRICES, BarBook, Cells, ChainName, MinuteSeries

FILE = "minute-bars.npz"
WRITE_EVERY_S = 120.0
KEPT_DAYS = 4  # a long weekend
BYTES_MAX = 64 * 1024 * 1024


class BarFile:
    """Reads and writes a :class:`BarBook`."""

    def __init__(self, directory: Path, book: BarBook) -> None:
        self._path = directory / FILE
        self._book = book
        self._log = structlog.get_logger("bars")

    def load(self, today: date) -> None:
        """Put back what was kept; a torn, foreign or old file is left alone and told."""
        if not self._path.exists():
            return
        try:
            kept = list(_read(self._path))
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            self._log.warning("kept bars cannot be read", file=FILE, reason=type(error).__name__)
            return
        for name, series in kept:
            if 0 <= (today - series.day).days <= KEPT_DAYS:
                if isinstance(name, ChainName):
                    self._book.chains[name] = series
                else:
                    self._book.spots[name] = series

    async def run(self) -> None:
        """Write now and then, until cancelled."""
        while True:
            await asyncio.sleep(WRITE_EVERY_S)
            await self.save()

    async def save(self) -> None:
        """Write what is there; packing and writing leave the loop."""
        taken = [(name, series.day, *series.since(None)) for name, series in self._book.everything()]
        try:
            await asyncio.to_thread(_write, self._path, taken)
        except OSError as error:
            self._log.warning("bars not kept", reason=error.strerror)


def _write(path: Path, taken: list[tuple[str | ChainName, date, int, Cells]]) -> None:
    about = [
        {
            "name": [*name] if isinstance(name, ChainName) else name,
            "day": day.isoformat(),
            "start_ms": start_ms,
            "count": len(cells),
        }
        for name, day, start_ms, cells in taken
    ]
    out = io.BytesIO()
    flat = np.concatenate([cells.ravel() for *_, cells in taken]) if taken else np.empty(0, dtype=np.float32)
    np.savez(out, about=np.frombuffer(orjson.dumps(about), dtype=np.uint8), cells=flat)
    part = path.with_suffix(".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    part.write_bytes(out.getbuffer())
    part.replace(path)


def _read(path: Path) -> Iterator[tuple[str | ChainName, MinuteSeries]]:
    """Raises what :meth:`BarFile.load` names for anything but our own file."""
    if path.stat().st_size > BYTES_MAX:
        raise ValueError("too large")
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as held:
        about, flat = orjson.loads(held["about"].tobytes()), held["cells"]
    if flat.dtype != np.float32 or flat.ndim != 1:
        raise ValueError("not our cells")
    at = 0
    for told in about:
        name = ChainName(*map(str, told["name"])) if isinstance(told["name"], list) else str(told["name"])
        width, count = len(AGGREGATES if isinstance(name, ChainName) else PRICES), int(told["count"])
        if not 0 <= count <= MINUTES_MAX:
            raise ValueError("no such number of minutes")
        series = MinuteSeries(width, date.fromisoformat(told["day"]))
        series.put_back(int(told["start_ms"]), flat[at : at + count * width].reshape(count, width))
        at += count * width
        yield name, series
