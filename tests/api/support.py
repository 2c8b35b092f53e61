"""What the API tests share: a clock moved by hand, cheap passwords, an HTTP client without sockets."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import httpx
from argon2 import PasswordHasher
from fastapi import FastAPI
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from app.rest.passwords import Passwords

IST = ZoneInfo("Asia/Kolkata")
START = datetime(2026, 2, 3, 10, 0, tzinfo=IST)
LOOPBACK = "http://127.0.0.1:8000"


class HandClock:
    """A clock that only a test moves."""

    def __init__(self, start: datetime = START) -> None:
        self._start = start
        self._elapsed_s = 0.0

    def advance(self, seconds: float) -> None:
        self._elapsed_s += seconds

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed_s)

    def now_ms(self) -> int:
        return int(self.now().timestamp() * 1000)

    def monotonic(self) -> float:
        return self._elapsed_s


def cheap_passwords() -> Passwords:
    return Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


def client_of(
    app: ASGIApp, *, base_url: str = LOOPBACK, client: tuple[str, int] = ("127.0.0.1", 50_000), **kwargs: Any
) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app, client=client, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url=base_url, **kwargs)


def routes_of(app: FastAPI) -> Iterator[tuple[str, Route]]:
    """Every route of the application, with its whole path, those of included routers too."""
    yield from _routes(app.routes)


def _routes(routes: list[BaseRoute]) -> Iterator[tuple[str, Route]]:
    for route in routes:
        if isinstance(route, Route):
            yield route.path, route
        else:  # the framework keeps an included router as a whole; ours bring their prefix themselves
            yield from _routes(route.original_router.routes)  # type: ignore[attr-defined]
