"""Keeps the session's bars over a restart: one file in the data directory, written anew every minute or two."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from zlib import crc32

import numpy as np
import orjson
import structlog

from app.stream.minute_bars import AGGREGATES, MINUTES_MAX, PRICES, BarBook, Cells, ChainName, MinuteSeries

FILE = "minute-bars.bin"
WRITE_EVERY_S = 120.0
KEPT_DAYS = 4  # a long weekend
BYTES_MAX = 64 * 1024 * 1024
CHECKSUM_BYTES = 4


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
        except (OSError, ValueError, KeyError, TypeError) as error:
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
        taken = [(name, series.day, series.start_ms, series.rows()) for name, series in self._book.everything()]
        try:
            await asyncio.to_thread(_write, self._path, taken)
        except OSError as error:
            self._log.warning("bars not kept", reason=error.strerror)


def _write(path: Path, taken: list[tuple[str | ChainName, date, int, Cells]]) -> None:
    """Series by series: a copy of all of them would make the process larger by a day's minutes."""
    about: list[dict[str, object]] = []
    for name, day, start_ms, cells in taken:
        shown = [*name] if isinstance(name, ChainName) else name
        about.append({"name": shown, "day": day.isoformat(), "start_ms": start_ms, "count": len(cells)})
    part = path.with_suffix(".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    checksum = 0
    with part.open("wb") as out:
        out.write(orjson.dumps(about) + b"\n")
        for *_, cells in taken:
            raw = cells.tobytes()
            checksum = crc32(raw, checksum)
            out.write(raw)
        out.write(checksum.to_bytes(CHECKSUM_BYTES))
    part.replace(path)


def _read(path: Path) -> Iterator[tuple[str | ChainName, MinuteSeries]]:
    """Raises what :meth:`BarFile.load` names for anything but our own file."""
    if path.stat().st_size > BYTES_MAX:
        raise ValueError("too large")
    header, _, raw = path.read_bytes().partition(b"\n")
    raw, checksum = raw[:-CHECKSUM_BYTES], raw[-CHECKSUM_BYTES:]
    if crc32(raw).to_bytes(CHECKSUM_BYTES) != checksum:
        raise ValueError("damaged")
    flat = np.frombuffer(raw, dtype=np.float32)
    at = 0
    for told in orjson.loads(header):
        name = ChainName(*map(str, told["name"])) if isinstance(told["name"], list) else str(told["name"])
        width, count = len(AGGREGATES if isinstance(name, ChainName) else PRICES), int(told["count"])
        if not 0 <= count <= MINUTES_MAX:
            raise ValueError("no such number of minutes")
        series = MinuteSeries(width, date.fromisoformat(told["day"]))
        series.put_back(int(told["start_ms"]), flat[at : at + count * width].reshape(count, width))
        at += count * width
        yield name, series
