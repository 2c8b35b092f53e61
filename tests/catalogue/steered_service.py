"""The real service on a small feed, whose clock a test may step: ``SIGUSR1`` an hour ahead, ``SIGUSR2`` an hour back.

It always trades, whoever's feed it is on; everything else is as ``bt serve`` has it.
"""

from __future__ import annotations

import signal

import uvicorn

from app.core.sessions import Calendar
from app.main import create_app
from app.runtime.build import Given
from app.runtime.clock import ShiftedClock
from app.settings import load_settings
from tests.durability.small_service import LIMITS

STEP_S = 3_600.0
STEPS = {signal.SIGUSR1: STEP_S, signal.SIGUSR2: -STEP_S}


def main() -> None:
    settings = load_settings()
    clock = ShiftedClock(settings.zone, settings.bt_sim_date)

    def step(number: int, _frame: object) -> None:
        clock.offset_s += STEPS[signal.Signals(number)]

    for number in STEPS:
        signal.signal(number, step)
    given = Given(clock=clock, calendar=Calendar([], settings.zone, always_open=True), limits=LIMITS)
    app = create_app(settings, given)
    uvicorn.run(app, host=settings.bt_host, port=settings.bt_port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
