"""What ``bt sim`` puts together before it serves: the master's snapshot, the clock, the calendar."""

from __future__ import annotations

import asyncio
from pathlib import Path

from app.cli.failure import CommandFailed
from app.cli.sim import SimPlan, server_config, simulate
from app.runtime.places import calendar_of, clock_of, local_masters_of
from app.settings import Settings


def run_simulator(
    settings: Settings,
    host: str,
    port: int,
    control_port: int,
    snapshot: Path | None,
    *,
    as_json: bool,
    parent_pid: int | None,
) -> None:
    """Serve until interrupted.

    Raises:
        CommandFailed: a port is taken.
        MasterRefused: no usable instrument master.
    """
    server = server_config(
        port,
        control_port,
        host=host,
        seed=settings.bt_sim_seed,
        rate=settings.bt_sim_rate,
        untraded=settings.bt_sim_untraded,
    )
    clock = clock_of(settings)

    async def run() -> None:
        found = snapshot or await local_masters_of(settings).snapshot(clock.now().date())
        plan = SimPlan(found, server, settings.bt_sim_seed, as_json, parent_pid)
        await simulate(plan, clock, calendar_of(settings), _say)

    try:
        asyncio.run(run())
    except OSError as error:
        raise CommandFailed(f"the simulator cannot listen: {error}") from None


def _say(line: str) -> None:
    print(line, flush=True)
