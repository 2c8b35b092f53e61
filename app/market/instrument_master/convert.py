"""Any instrument file as mapped columns: a snapshot as it is, a CSV through a short-lived child process."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from app.core.errors import MasterRefused
from app.market.instrument_master.snapshot import MAGIC, Columns, map_columns

BUILDER = "app.market.instrument_master.scrip_csv"
BUILD_TIMEOUT_S = 300.0


def map_master(path: Path) -> Columns:
    """Map a snapshot, or a CSV made into one now. The second takes a second or two and blocks: not for the loop.

    Raises:
        MasterRefused: the file may not be used, and why.
    """
    if _is_snapshot(path):
        return map_columns(path)
    with tempfile.TemporaryDirectory(prefix="bt-master-") as directory:
        out = Path(directory) / "master.snapshot"
        _build(path, out)
        return map_columns(out)  # stays readable while mapped, also when its name is gone


def _is_snapshot(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError as error:
        raise MasterRefused(f"{path.name}: cannot be read: {error.strerror or error}") from None


def _build(source: Path, out: Path) -> None:
    command = [sys.executable, "-m", BUILDER, str(source.resolve()), str(out)]
    root = Path(__file__).resolve().parents[3]
    try:
        done = subprocess.run(  # noqa: S603 - our own module, on a path that is data
            command, cwd=root, capture_output=True, timeout=BUILD_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise MasterRefused(f"{source.name}: not read within {BUILD_TIMEOUT_S:.0f} s") from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise MasterRefused(lines[-1] if lines else f"{source.name}: the reader ended with code {done.returncode}")
