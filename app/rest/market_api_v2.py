"""REST, version 2: the 16 endpoints and the service endpoints around them, put onto one application.

Routes are thin: check the caller, call one use case, tell its answer. The path that is named first wins, so
``/subscriptions/status`` stands before ``/subscriptions/{token}``.
"""

from __future__ import annotations

from fastapi import APIRouter, FastAPI
from starlette.middleware import Middleware

from app.rest import examples, limits, schemas
from app.rest.admin_routes import AdminRoutes, SignInRoutes
from app.rest.bar_routes import BarRoutes
from app.rest.chain_routes import ChainRoutes
from app.rest.error_handlers import install_error_handlers
from app.rest.health import HealthRoutes
from app.rest.idempotency import IdempotentWrites
from app.rest.instrument_routes import InstrumentRoutes
from app.rest.list_routes import ListRoutes
from app.rest.load import FairShare, Turnstile
from app.rest.metrics import MetricsRoute
from app.rest.middleware import BodyLimit, Gate, SecurityHeaders
from app.rest.operations import API, Operation, add_operations, install_openapi
from app.rest.pages import create_pages_router
from app.rest.services import Services
from app.rest.stream_routes import StreamRoutes
from app.rest.subscription_routes import SubscriptionRoutes
from app.rest.watchlist_routes import WatchlistRoutes

API_VERSION = "2.0.0"


def create_router(services: Services) -> APIRouter:
    """The 16 endpoints, the admin reports and the sign-in, under ``/api/v2``."""
    router = APIRouter(prefix=API)
    for tag, operations in operations_of(services):
        add_operations(router, tag, operations)
    return router


def operations_of(services: Services) -> list[tuple[str, list[Operation]]]:
    """Every operation by section, in the order of matching."""
    return [
        ("Named lists", ListRoutes(services).operations()),
        ("Watchlist", WatchlistRoutes(services).operations()),
        ("Option chain", ChainRoutes(services).operations()),
        ("Subscriptions", SubscriptionRoutes(services).operations()),
        ("Bars", BarRoutes(services).operations()),
        ("Instruments", InstrumentRoutes(services).operations()),
        ("Admin", AdminRoutes(services).operations()),
        ("Stream", StreamRoutes(services).operations()),
        ("Sign-in", SignInRoutes(services.authenticator).operations()),
    ]


def create_service_router(services: Services) -> APIRouter:
    """``/health``, ``/ready`` and ``/metrics``."""
    router = APIRouter(tags=["Service"])
    health = HealthRoutes(services)
    metrics = MetricsRoute(services)
    router.add_api_route(
        "/health",
        health.health,
        response_model=schemas.Health,
        operation_id="health",
        summary="Alive, and what ails it; always 200",
        responses={200: {"content": {"application/json": {"example": examples.HEALTH}}}},
    )
    router.add_api_route(
        "/ready",
        health.ready,
        response_model=schemas.Ready,
        operation_id="ready",
        summary="200 once store, registry and API are up, else 503",
        responses={200: {"content": {"application/json": {"example": {"status": "ready"}}}}},
    )
    router.add_api_route("/metrics", metrics.metrics, include_in_schema=False)
    for path, endpoint in (("/health", health.health), ("/ready", health.ready), ("/metrics", metrics.metrics)):
        router.add_api_route(path, endpoint, methods=["HEAD"], include_in_schema=False)  # how many probes ask
    return router


def middleware_of(services: Services) -> list[Middleware]:
    """What surrounds every request, outermost first."""
    return [
        Middleware(SecurityHeaders),
        Middleware(BodyLimit, bytes_max=limits.BODY_BYTES_MAX, seconds_max=limits.BODY_S),
        Middleware(Turnstile, clock=services.clock, at_once=services.load.requests_at_once),
        Middleware(Gate, authenticator=services.authenticator),
        Middleware(FairShare, clock=services.clock, a_second=services.load.requests_a_second),
        Middleware(IdempotentWrites, clock=services.clock),
    ]


def install_routes(app: FastAPI, services: Services) -> None:
    """Put every HTTP route, the error answers and the OpenAPI document onto ``app``. Call it last."""
    app.router.redirect_slashes = False  # a redirect would repeat whatever Host the caller sent
    install_error_handlers(app)
    app.include_router(create_router(services))
    app.include_router(create_service_router(services))
    app.include_router(create_pages_router(services.web_dir))
    described = [operation for _, operations in operations_of(services) for operation in operations]
    install_openapi(app, API_VERSION, described)


def create_api(services: Services) -> FastAPI:
    """A complete HTTP application over running owners."""
    app = FastAPI(
        title="Broking Terminal API",
        version=API_VERSION,
        docs_url=None,
        redoc_url=None,
        middleware=middleware_of(services),
    )
    install_routes(app, services)
    _lay_out(app)
    return app


def _lay_out(app: FastAPI) -> None:
    """Have every route worked out now: left to the first request, that holds the running loop for 40 ms."""
    for route in app.routes:
        route.matches({"type": "http", "method": "GET", "path": "", "root_path": "", "headers": []})
