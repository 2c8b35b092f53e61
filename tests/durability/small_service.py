"""The real service with a small feed, which a handful of chains fills: ``python -m tests.durability.small_service``.

Everything else is as ``bt serve`` has it: settings from the environment, the simulator as a child, real sockets.
"""

from __future__ import annotations

import uvicorn

from app.main import create_app
from app.ports.feed import FeedLimits
from app.runtime.build import Given
from app.settings import load_settings

LIMITS = FeedLimits(connections=5, instruments_per_connection=60, instruments_per_message=20)
UNIVERSE = """
[[chain]]
symbol = "NIFTY"
nearest = 1
strikes = 11

[drivers]
fo_stocks = true
"""


def main() -> None:
    settings = load_settings()
    app = create_app(settings, Given(limits=LIMITS))
    uvicorn.run(app, host=settings.bt_host, port=settings.bt_port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
