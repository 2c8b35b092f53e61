"""Is it alive, is it ready, and what ails it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from starlette.responses import Response

from app.core.errors import StoreUnavailable
from app.ports.feed import LAG_BUCKET_MS, LAG_BUCKETS
from app.rest import limits
from app.rest.answers import JsonAnswer, problem
from app.rest.services import Services

RETRY_AFTER_S = 2


class HealthRoutes:
    def __init__(self, services: Services) -> None:
        self._services = services

    async def health(self) -> Response:
        """Always 200 while the process lives; `degraded` says why."""
        reasons = await self.reasons()
        return JsonAnswer(
            {
                "status": "degraded" if reasons else "healthy",
                "reasons": reasons,
                "subscriptions": self._services.status.counts(),
                "websocket_status": self._services.pool.get_status(),
                **self._services.badges(),
                "versions": dict(self._services.versions),
                "time": self._services.clock.now(),
            }
        )

    async def ready(self) -> Response:
        """200 once store, registry and API are up; a feed that is down does not count."""
        state = self._services.readiness()
        if state.ready:
            return JsonAnswer({"status": "ready"})
        waiting = ", ".join(state.waiting_for) or "start"
        return problem(
            503,
            "NOT_READY",
            f"waiting for {waiting}",
            "/ready",
            extra={"waiting_for": list(state.waiting_for)},
            headers={"Retry-After": str(RETRY_AFTER_S)},
        )

    async def reasons(self) -> list[str]:
        """Everything that is not as it should be, each in one line."""
        found = list(self._services.concerns())
        if self._services.registry.revision == 0:
            found.append("no instrument master is loaded")
        found.extend(self._feed_reasons())
        if reason := await self._store_reason():
            found.append(reason)
        return found

    def _feed_reasons(self) -> list[str]:
        up, total = self._services.pool.connected, self._services.connections
        found = [] if up == total else [f"{up} of {total} feed connections are up"]
        if late := self._services.pool.late_ms:
            found.append(_late_reason(late, is_all=len(late) == up))
        return found

    async def _store_reason(self) -> str | None:
        try:
            async with asyncio.timeout(limits.PING_TIMEOUT_S):
                await self._services.store.ping()
        except StoreUnavailable as error:
            return f"store: {error.detail}"
        except TimeoutError:
            return f"store: no answer within {limits.PING_TIMEOUT_S:g} s"
        trouble = self._services.store.trouble  # a read may work where no write does
        return None if trouble is None else f"store: {trouble}"


def _late_reason(late: Mapping[int, float], *, is_all: bool) -> str:
    """``late``: connections (1-based) and how old, in ms, their prices are when they come."""
    some = f"connection{'s' if len(late) > 1 else ''} {', '.join(map(str, late))}"
    which = "all connections" if is_all else some
    age_ms = max(late.values())
    more = " or more" if age_ms > LAG_BUCKET_MS * (LAG_BUCKETS - 1) else ""  # longer lags are not told apart
    cause = ", or this machine's clock is ahead" if is_all else ""
    return f"prices on {which} are {age_ms / 1000:.0f} s{more} old when they come{cause}"
