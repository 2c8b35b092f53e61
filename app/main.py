"""``uvicorn app.main:app``. Importing opens nothing; the service is built and started by the lifespan."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.routing import Mount, WebSocketRoute
from starlette.types import ASGIApp

from app.core.errors import TerminalError
from app.lifecycle.gateway import answering_gateways, running_gateway
from app.lifecycle.hooks import running
from app.rest.market_api_v2 import create_api
from app.runtime.build import Given, build
from app.runtime.gateway import build_gateway
from app.settings import Settings, SettingsError, load_settings

STREAM_PATH = "/api/v2/stream"


class Terminal(FastAPI):
    """The application. While it runs, one mounted API stands over one runtime; each start builds its own."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            send = _in_one_line(send)
        if scope["type"] == "websocket":
            for route in self.router.routes:
                if isinstance(route, WebSocketRoute) and route.path == scope["path"]:
                    # Past the middleware: its wrapper of send would hide the transport, whose buffers the stream caps.
                    await route.app(scope, receive, send)
                    return
        for route in self.router.routes if scope["type"] == "http" else ():
            if isinstance(route, Mount):
                # Not by its pattern, which a path with a line break in it does not fit: that is for the API to refuse.
                await route.app(scope, receive, send)
                return
        await super().__call__(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """The mounted API's document."""
        for route in self.router.routes:
            if isinstance(route, Mount) and isinstance(route.app, FastAPI):
                return route.app.openapi()
        return super().openapi()


def create_app(settings: Settings | None = None, given: Given | None = None) -> FastAPI:
    """An application over ``settings``, by default those of the environment; ``given`` as for :func:`build`.

    Raises:
        SettingsError: a setting is bad; only where none were given.
    """
    told = settings or load_settings()
    serving = _serving_gateway if told.bt_role == "gateway" else _serving

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with serving(told, given) as (stream, api):
            routes = [WebSocketRoute(STREAM_PATH, stream), Mount("", app=api)]
            app.router.routes.extend(routes)
            try:
                yield
            finally:
                for route in routes:
                    app.router.routes.remove(route)

    return Terminal(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)


@asynccontextmanager
async def _serving(settings: Settings, given: Given | None) -> AsyncIterator[tuple[ASGIApp, ASGIApp]]:
    runtime = build(settings, given=given)
    api = create_api(runtime.services)  # a fifth of a second, while nothing runs yet
    async with running(runtime), answering_gateways(runtime, api):
        yield runtime.outbound.stream, api


@asynccontextmanager
async def _serving_gateway(settings: Settings, given: Given | None) -> AsyncIterator[tuple[ASGIApp, ASGIApp]]:
    async with running_gateway(build_gateway(settings)) as runtime:
        yield runtime.stream, runtime.http


def _in_one_line(send: Any) -> Any:
    """A start that fails for a reason we know is told in one line; the traceback is for the unexpected."""

    async def send_short(message: Any) -> None:
        error = sys.exc_info()[1]
        if message["type"] == "lifespan.startup.failed" and isinstance(error, TerminalError | OSError | RuntimeError):
            message = {**message, "message": f"cannot start: {error}"}
        await send(message)

    return send_short


def _app_of_environment() -> FastAPI:
    try:
        return create_app()
    except SettingsError as error:
        sys.exit(f"bt: {error}")


app = _app_of_environment()
