"""One line per change of state, on standard output, with every secret taken out."""

from __future__ import annotations

import logging
import sys
from collections.abc import Collection, MutableMapping
from contextlib import suppress
from typing import Any, TextIO

import structlog

HIDDEN = "***"
SHORTEST_SECRET = 4  # a shorter one would blot out ordinary words


class Redactor:
    """Takes known secrets out of every value of an event, tracebacks included."""

    def __init__(self, secrets: Collection[str]) -> None:
        self._secrets = tuple(secret for secret in secrets if len(secret) >= SHORTEST_SECRET)

    def __call__(self, _logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        for name, value in event.items():
            if isinstance(value, str):
                event[name] = self.clean(value)
        return event

    def clean(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return text


class LossyOutput:
    """Standard output that may fail: a full disk or a closed pipe costs lines of the log, never the service."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> None:
        with suppress(OSError):
            self._file.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._file.flush()


def set_up_logs(secrets: Collection[str]) -> None:
    """Configure structlog for this process; the libraries' own loggers speak up from warnings on."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for chatty in ("httpx", "apscheduler"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            structlog.processors.format_exc_info,
            Redactor(secrets),
            structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(LossyOutput(sys.stdout)),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,
    )
