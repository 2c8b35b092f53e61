"""The service behind the doors where none runs: memory store, no sockets, the generated master."""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import structlog

from app.ports.store import StoredState
from app.runtime.build import Runtime, build
from app.runtime.places import local_masters_of
from app.settings import load_settings

DOCUMENT_DAY = date(2026, 2, 3)  # the day of the user's document: its literal examples are listed then


def started_in_memory() -> Runtime:
    """Build it, load its instruments and let it take wishes. Blocks while a master is made for the first time."""
    if not structlog.is_configured():  # standard output is the caller's own
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    told = load_settings()
    settings = told.model_copy(update={"bt_feed": "off", "bt_sim_date": told.bt_sim_date or DOCUMENT_DAY})
    runtime = build(settings, in_memory=True)
    source = local_masters_of(settings)
    with ThreadPoolExecutor(1) as helper:  # whoever knocks may have an event loop of their own
        path = helper.submit(asyncio.run, source.snapshot(runtime.clock.now().date())).result()
        helper.submit(asyncio.run, runtime.store.start()).result()
    runtime.registry.load(path)
    runtime.control.start(StoredState(), runtime.always_on())
    runtime.status.waiting_for.clear()
    return runtime
