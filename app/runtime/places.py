"""What settings mean: the clock, the calendar, the secret key."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

import structlog

from app.core.sessions import INDIA, Calendar, parse_exchange_days
from app.runtime.clock import ShiftedClock
from app.runtime.masters import MasterPlan, MasterSource, no_download
from app.settings import Settings

KEY_FILE, LOCK_FILE, LIFE_FILE = "secret.key", "feed.lock", "life"
LIFE_AHEAD_MAX_S = 366 * 86_400  # a number further ahead is no life of ours


def clock_of(settings: Settings) -> ShiftedClock:
    """The service's clock: the machine's, on the day that ``BT_SIM_DATE`` names."""
    return ShiftedClock(INDIA, settings.bt_sim_date)


def calendar_of(settings: Settings) -> Calendar:
    """The exchanges' calendar, or the simulator's own that never closes."""
    if settings.all_hours:
        return Calendar([], INDIA, always_open=True)
    folder = files("app.core") / "calendars"
    return Calendar([parse_exchange_days(each.read_text("utf-8")) for each in folder.iterdir()], INDIA)


def local_masters_of(settings: Settings) -> MasterSource:
    """Where a program without a network finds the service's master: the given file, else the generated one."""
    plan = MasterPlan(settings.bt_data_dir / "master", settings.bt_instrument_master, True, settings.bt_sim_seed)
    return MasterSource(plan, no_download)


def lock_path_of(settings: Settings) -> Path:
    """The file whose lock its feed's owner holds."""
    return settings.bt_data_dir / LOCK_FILE


def next_life(settings: Settings, now_s: int) -> int:
    """The number of this life of the process: the epoch second it begins in, but always above the last life's.

    A process that is back within a second, or after the machine's clock was set back, would otherwise number its
    messages as the one before did, and a client could take deltas of one for those of the other.
    """
    path = settings.bt_data_dir / LIFE_FILE
    try:
        last = int(path.read_text("ascii"))
    except (OSError, ValueError):
        last = 0
    life = max(now_s, last + 1) if last - now_s < LIFE_AHEAD_MAX_S else now_s
    part = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(str(life), encoding="ascii")
        part.replace(path)
    except OSError as error:  # a full disk: the clock alone must do
        structlog.get_logger("service").warning("not kept", what=LIFE_FILE, reason=error.strerror)
    return life


def secret_key_of(settings: Settings) -> str:
    """``BT_SECRET_KEY``, else the key of this data directory, made on first use and readable by its owner only."""
    if settings.bt_secret_key is not None:
        return settings.bt_secret_key.get_secret_value()
    path = settings.bt_data_dir / KEY_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.stat().st_size:  # a disk that was full; an empty key would be anybody's
        path.unlink()
    if not path.exists():
        _make_key(path)
    return path.read_text("ascii").strip()


def _make_key(path: Path) -> None:
    """The file has its name once it is whole; of two processes that start together one makes it."""
    part = path.with_name(f"{path.name}-{secrets.token_hex(4)}.part")
    try:
        with open(part, "x", encoding="ascii", opener=_private) as file:
            file.write(secrets.token_urlsafe(48))
        with suppress(FileExistsError):
            os.link(part, path)
    finally:
        part.unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
