"""Where the instrument master comes from and how it becomes the snapshot in use. Heavy work runs in child processes."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from asyncio.subprocess import PIPE
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from app.core.errors import MasterRefused
from app.market.instrument_master.snapshot import VERSION
from app.settings import without_password

CHILD_TIMEOUT_S = 300.0
UNUSED_KEPT_S = 3 * 86_400.0


@dataclass(frozen=True, slots=True)
class MasterPlan:
    """What to load for one day.

    ``given`` is a path or URL from ``BT_INSTRUMENT_MASTER``. Without it, ``generated`` chooses the simulator's own
    master for that day, and else Dhan's detailed file is downloaded.
    """

    directory: Path
    given: str | None
    generated: bool
    seed: int


class MasterSource:
    """Makes a snapshot file ready for ``InstrumentRegistry.load`` and keeps the last good one."""

    def __init__(self, plan: MasterPlan, download: Callable[[str | None, Path], Awaitable[Path]]) -> None:
        self._plan = plan
        self._download = download
        self.last_refused: str | None = None

    async def snapshot(self, day: date) -> Path:
        """Path of a finished snapshot for ``day``; built now unless it is there.

        Raises:
            MasterRefused: the file is bad and no earlier snapshot exists.
        """
        self._plan.directory.mkdir(parents=True, exist_ok=True)
        try:
            source = await self._source(day)
            built = await self._built(source)
        except (MasterRefused, OSError) as error:
            self.last_refused = self._told(error)
            kept = self._newest_kept()
            if kept is None:
                raise MasterRefused(self.last_refused) from error
            return kept
        self.last_refused = None
        self._drop_unused(built, source)
        return built

    def _told(self, error: Exception) -> str:
        given = self._plan.given
        return str(error) if given is None else f"BT_INSTRUMENT_MASTER was {without_password(given)!r}: {error}"

    @property
    def _is_downloaded(self) -> bool:
        return not self._plan.generated if self._plan.given is None else "://" in self._plan.given

    async def _source(self, day: date) -> Path:
        if self._plan.given is not None and not self._is_downloaded:
            return _existing(Path(self._plan.given))
        if self._plan.given is None and self._plan.generated:
            return await self._generated(day)
        return await self._download(self._plan.given, self._plan.directory)

    async def _generated(self, day: date) -> Path:
        path = self._plan.directory / f"generated-{day.isoformat()}-{self._plan.seed}.csv"
        if not path.exists():
            await _child("app.sim.master", str(path), day.isoformat(), str(self._plan.seed))
        return path

    async def _built(self, source: Path) -> Path:
        out = self._plan.directory / f"{self._family()}-v{VERSION}-{_fingerprint(source)}.snapshot"
        if not out.exists():
            await _child("app.market.instrument_master.scrip_csv", str(source), str(out), *self._compared_with())
        out.touch()  # the newest good one is what a refused file falls back to
        return out

    def _drop_unused(self, built: Path, source: Path) -> None:
        """A new file of some 24 MB comes every day, and a generated master has twice that beside it."""
        before_s = built.stat().st_mtime - UNUSED_KEPT_S
        for each in (*self._plan.directory.glob("*.snapshot"), *self._plan.directory.glob("generated-*.csv")):
            with suppress(OSError):  # another process was first
                if each != source and each.stat().st_mtime < before_s:
                    each.unlink()

    def _family(self) -> str:
        return "generated" if self._plan.given is None and self._plan.generated else "master"

    def _compared_with(self) -> tuple[str, ...]:
        """A download absurdly shorter than the last good one is refused; a file given by hand is meant."""
        kept = self._newest_kept()
        return (str(kept),) if kept is not None and self._is_downloaded else ()

    def _newest_kept(self) -> Path | None:
        kept = list(self._plan.directory.glob(f"{self._family()}-v{VERSION}-*.snapshot"))
        return max(kept, key=lambda path: path.stat().st_mtime, default=None)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise MasterRefused("it names no file; it may be the path or URL of a master CSV")
    return path


async def no_download(given: str | None, _directory: Path) -> Path:
    """The ``download`` of whoever opens no socket."""
    raise MasterRefused(f"nothing is downloaded here: fetch {given} first and give its path")


def _fingerprint(source: Path) -> str:
    """Names a source by path, size and time of change: reading 40 MB to hash it would cost more than the warm start."""
    stat = source.stat()
    text = f"{source.resolve()}|{stat.st_size}|{stat.st_mtime_ns}"
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


async def _child(module: str, *arguments: str) -> None:
    """Run one of our modules as a program; its last line on stderr says what was wrong."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", module, *arguments, stdout=PIPE, stderr=PIPE)
    try:
        async with asyncio.timeout(CHILD_TIMEOUT_S):
            _, errors = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise MasterRefused(f"{module} did not finish within {CHILD_TIMEOUT_S:.0f} s") from None
    if process.returncode:
        lines = errors.decode(errors="replace").strip().splitlines()
        raise MasterRefused(lines[-1] if lines else f"{module} ended with code {process.returncode}")
