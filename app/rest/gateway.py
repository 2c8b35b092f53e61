"""HTTP of ``BT_ROLE=gateway``: the page and its own health from here, all else from the process that owns the feed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from fastapi import FastAPI, Request
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.core.errors import FeedAway, TerminalError
from app.rest import limits
from app.rest.answers import JsonAnswer, problem, problem_of
from app.rest.error_handlers import install_error_handlers
from app.rest.feed_link import FarAuthenticator, FeedLink
from app.rest.metrics import CONTENT_TYPE
from app.rest.middleware import BodyLimit, SecurityHeaders
from app.rest.pages import WEB_DIR, create_pages_router

AWAY = "the process that owns the feed does not answer over the bus"
_FORWARDED = ("/api/", "/openapi.json")
_HOP_BY_HOP = frozenset({b"connection", b"keep-alive", b"transfer-encoding", b"upgrade"})


class Gateway:
    """Pure ASGI: forwards the API, serves the rest itself."""

    def __init__(self, link: FeedLink, own: ASGIApp) -> None:
        self._link = link
        self._own = own
        self._forward = BodyLimit(self._ask, bytes_max=limits.BODY_BYTES_MAX, seconds_max=limits.BODY_S)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        forwarded = scope["type"] == "http" and scope["path"].startswith(_FORWARDED)
        await (self._forward if forwarded else self._own)(scope, receive, send)

    async def _ask(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = b"" if scope["method"] in ("GET", "HEAD", "OPTIONS") else (await receive()).get("body", b"")
            answer = await self._link.call(scope, body)
        except TerminalError as error:
            await problem_of(error, scope["path"])(scope, receive, send)
            return
        headers = [pair for pair in answer.headers if pair[0] not in _HOP_BY_HOP]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})


def create_gateway(link: FeedLink, gauges: Callable[[], Mapping[str, float]], web_dir: Path = WEB_DIR) -> Gateway:
    """The application of a gateway; ``gauges`` are its own numbers by metric name."""
    own = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    own.router.redirect_slashes = False
    install_error_handlers(own)
    health = GatewayHealth(link, gauges)
    for path, endpoint in (("/health", health.health), ("/ready", health.ready), ("/metrics", health.metrics)):
        own.add_api_route(path, endpoint, methods=["GET", "HEAD"])
    own.include_router(create_pages_router(web_dir))
    return Gateway(link, SecurityHeaders(own))


class GatewayHealth:
    def __init__(self, link: FeedLink, gauges: Callable[[], Mapping[str, float]]) -> None:
        self._link = link
        self._authenticator = FarAuthenticator(link)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Gauges(gauges))

    async def health(self) -> Response:
        """The feed's own health, or that it does not answer; always 200."""
        try:
            told = (await self._link.health()).json()
        except (FeedAway, ValueError):
            return JsonAnswer(
                {"status": "degraded", "reasons": [AWAY], "subscriptions": None, "websocket_status": None}
            )
        return JsonAnswer(told)

    async def ready(self) -> Response:
        if self._link.is_up:
            return JsonAnswer({"status": "ready"})
        return problem(503, "NOT_READY", AWAY, "/ready", extra={"waiting_for": ["feed"]}, headers={"Retry-After": "2"})

    async def metrics(self, request: Request) -> Response:
        """For whom the feed's process would answer too."""
        await self._authenticator.principal_of(request.scope)
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE)


class _Gauges(Collector):
    def __init__(self, gauges: Callable[[], Mapping[str, float]]) -> None:
        self._gauges = gauges

    def collect(self) -> list[GaugeMetricFamily]:
        return [GaugeMetricFamily(name, name.replace("_", " "), value=value) for name, value in self._gauges().items()]
