"""The real service on a small feed, whose machine's clock a test may set: ``SIGUSR1`` and ``SIGUSR2`` by 50 minutes
ahead and back.

It always trades, whoever's feed it is on; everything else is as ``bt serve`` has it.
"""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass

import uvicorn

from app.core.sessions import INDIA, Calendar
from app.main import create_app
from app.runtime.build import Given
from app.runtime.clock import ShiftedClock
from app.settings import load_settings
from tests.durability.small_service import LIMITS

STEPS = {signal.SIGUSR1: 3_000.0, signal.SIGUSR2: -3_000.0}


@dataclass
class SetClock:
    """The machine's clock, set by signals."""

    off_s: float = 0.0

    def epoch_s(self) -> float:
        return time.time() + self.off_s

    def step(self, number: int, _frame: object) -> None:
        self.off_s += STEPS[signal.Signals(number)]


def main() -> None:
    settings = load_settings()
    machine = SetClock()
    clock = ShiftedClock(INDIA, settings.bt_sim_date, epoch_s=machine.epoch_s)
    for number in STEPS:
        signal.signal(number, machine.step)
    given = Given(clock=clock, calendar=Calendar([], INDIA, always_open=True), limits=LIMITS)
    app = create_app(settings, given)
    uvicorn.run(app, host=settings.bt_host, port=settings.bt_port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
