"""Prices that come steadily and are old: a feed that is behind, as the real one was by 46 s on a bad day."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import httpx

from tests.catalogue.desk import Desk, write_files
from tests.service import Service

BEHIND_S, LATE_S = 4, 2
SOON_S = 60.0


def test_prices_that_are_old_when_they_come_are_told(new_service: Callable[..., Service], tmp_path: Path) -> None:
    files = write_files(tmp_path / "files")
    command = ("-m", "tests.durability.small_service")
    with new_service(command=command, **files, BT_LATE_S=str(LATE_S)) as service, httpx.Client(timeout=10) as http:
        desk = Desk(service, http=http)
        desk.wait("prices", desk.is_live)
        assert desk.reasons() == []
        desk.fault(kind="time_shift", value=-BEHIND_S, seconds=600)
        said = re.compile(r"prices on all connections are [45] s old when they come, or this machine's clock is ahead")
        desk.wait("late", lambda: any(map(said.fullmatch, desk.reasons())), SOON_S)  # one after the other
        assert all(line["late"] for line in desk.connections().values() if line["instruments"])
        assert desk.is_live(), "they come all the same"
        desk.heal()
        desk.wait("in time", lambda: not desk.reasons(), SOON_S)
