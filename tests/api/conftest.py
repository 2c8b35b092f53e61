"""A generated master once, a fresh service per test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from app.market.instrument_master.scrip_csv import build_snapshot
from app.sim.master import write_master
from tests.api.support import START
from tests.api.world import World, running_world


@pytest.fixture(scope="session")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("api-master")
    write_master(folder / "generated.csv", START.date(), 1)
    build_snapshot(folder / "generated.csv", folder / "generated.snapshot")
    return folder / "generated.snapshot"


@pytest.fixture
async def world(snapshot: Path) -> AsyncIterator[World]:
    async with running_world(snapshot) as made:
        yield made


@pytest.fixture
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with world.client() as made:
        yield made
