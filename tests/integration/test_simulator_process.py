"""The simulator's child: says where it listens, and is there again on the same port after it was killed."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import httpx

from app.lifecycle.simulator import SimulatorAddress, SimulatorProcess
from app.market.instrument_master.scrip_csv import build_snapshot
from tests.masters import SMALL, SMALL_DAY

ROOT = Path(__file__).resolve().parents[2]


async def test_it_comes_back_on_its_port_after_a_kill_and_with_a_new_master(tmp_path: Path) -> None:
    snapshot = tmp_path / "small.snapshot"
    build_snapshot(SMALL, snapshot)
    environment = {**os.environ, "BT_SIM_DATE": SMALL_DAY.isoformat(), "PYTHONPATH": str(ROOT)}
    child = SimulatorProcess(("--snapshot", str(snapshot)), environment)
    addresses: asyncio.Queue[SimulatorAddress] = asyncio.Queue(maxsize=5)
    async with asyncio.TaskGroup() as group:
        keeper = group.create_task(child.run(addresses.put_nowait))
        async with asyncio.timeout(60):
            first = await addresses.get()
            assert child.pid is not None
            os.kill(child.pid, signal.SIGKILL)
            second = await addresses.get()
            child.restart_with(("--snapshot", str(snapshot), "--control-port", "0"))
            third = await addresses.get()
        async with httpx.AsyncClient() as http:
            assert (await http.get(f"{third.control_url}/stats")).status_code == 200
        keeper.cancel()
    await child.stop()
    assert third.feed_url == second.feed_url == first.feed_url
