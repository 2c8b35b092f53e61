"""Pure ASGI layers that shed load: what is too much is refused at once, and ticks and those inside keep their pace."""

from __future__ import annotations

import math

from starlette.types import ASGIApp, Receive, Scope, Send

from app.core.errors import Overloaded, RateLimited
from app.ports.clock import Clock
from app.rest import limits
from app.rest.answers import problem_of
from app.rest.auth import Principal
from app.rest.slices import Slices
from app.rest.throttle import Allowances

PROBES = frozenset({"/health", "/ready"})  # whoever watches the service must not take a busy one for a dead one
SCRAPE = "/metrics"  # shows how busy it is, so it is let in; it costs some milliseconds, so it waits its turn


class Turnstile:
    """Lets ``at_once`` requests in, and one of them begin in each turn of the event loop; others are answered 503.

    So is one that waited too long: whoever asked has given up, and those behind it need not. Without this layer as many
    requests as there are sockets run one after the other before the loop looks at the feed.
    """

    def __init__(self, app: ASGIApp, clock: Clock, at_once: int) -> None:
        self._app = app
        self._clock = clock
        self._at_once = at_once
        self._inside = 0
        self._slices = Slices(clock, wakes_a_turn=1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self._app(scope, receive, send)
            return
        if self._inside >= self._at_once and scope["path"] != SCRAPE:
            await _refuse(f"{self._inside} requests are being answered, no more at once", scope, receive, send)
            return
        self._inside += 1
        try:
            since_s = self._clock.monotonic()
            await self._slices.turn()
            waited_s = self._clock.monotonic() - since_s
            if waited_s > limits.REQUEST_WAITS_S:
                await _refuse(f"the request waited {waited_s:.0f} s for its turn", scope, receive, send)
                return
            await self._app(scope, receive, send)
        finally:
            self._inside -= 1


async def _refuse(why: str, scope: Scope, receive: Receive, send: Send) -> None:
    await problem_of(Overloaded(why, retry_after_s=limits.BUSY_RETRY_S), scope["path"])(scope, receive, send)


class FairShare:
    """Inside the gate: each signed-in user has ``a_second`` requests, some saved up; more are answered 429.

    The machine itself, which needs no token, is not counted: it is one caller with all that runs on it.
    """

    def __init__(self, app: ASGIApp, clock: Clock, a_second: float) -> None:
        self._app = app
        self._a_second = a_second
        self._allowances = Allowances(clock, a_second, a_second * limits.REQUESTS_SAVED_S, limits.CALLERS_MAX)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller: Principal | None = scope.get("principal")
        wait_s = self._allowances.spend(caller.user_id) if caller is not None and caller.has_token else 0.0
        if wait_s > 0:
            told = f"at most {self._a_second:g} requests a second"
            await problem_of(RateLimited(told, retry_after_s=math.ceil(wait_s)), scope["path"])(scope, receive, send)
            return
        await self._app(scope, receive, send)
