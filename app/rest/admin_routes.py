"""Endpoints 13 to 16 and what administrators look at. The gate lets only admins come here."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import Annotated

from fastapi import Query, Request
from pydantic import BeforeValidator
from starlette.responses import Response

from app.core.errors import Forbidden, InvalidRequest, RateLimited, StoreUnavailable, Unauthenticated
from app.ports.access import AccessAction, AccessFilter
from app.ports.store import USER_ID_MAX
from app.rest import access_schemas, examples, limits, schemas
from app.rest.answers import JsonAnswer
from app.rest.auth import Authenticator
from app.rest.cursors import read_number_cursor, write_cursor
from app.rest.forms import SignInForm
from app.rest.operations import Caller, Operation
from app.rest.services import Services
from app.rest.subscription_routes import Cursor, LogLimit
from app.rest.users import require_known

# A user named in the query and not heard there would clear everybody's list.
UserQuery = Annotated[int | None, Query(alias="user_id", ge=1, le=USER_ID_MAX, description="`users.id`")]


def _day(told: object) -> object:
    """Only ISO-8601: a bare number would be taken for epoch seconds."""
    return date.fromisoformat(told) if isinstance(told, str) else told


EverywhereQuery = Annotated[bool, Query(description="every sign-in of the caller, on all devices")]
SinceDay = Annotated[date | None, BeforeValidator(_day), Query(description="`2026-02-01`")]


class AdminRoutes:
    def __init__(self, services: Services) -> None:
        self._services = services

    def operations(self) -> list[Operation]:
        get, post = "GET", "POST"
        return [
            Operation(
                13, post, "/admin/unsubscribe-all-tier-a", self.unsubscribe_all_tier_a, schemas.TierACleared,
                "End every Tier A subscription; lists stay and say why", examples.TIER_A_CLEARED,
                (StoreUnavailable,),
            ),
            Operation(
                14, post, "/admin/clear-watchlists", self.clear_watchlists, schemas.WatchlistsCleared,
                "Clear one user's list, or everybody's", examples.CLEARED, (StoreUnavailable,), request={},
            ),
            Operation(
                15, get, "/admin/ws-status", self.ws_status, schemas.WsStatus,
                "The feed's connections", examples.WS_STATUS,
            ),
            Operation(
                16, post, "/admin/rebalance-ws", self.rebalance_ws, schemas.Rebalanced,
                "Level the connections, make before break", examples.REBALANCED,
            ),
            Operation(
                0, get, "/admin/registry", self.registry_report, None,
                "The instrument master in use", examples.REGISTRY, (Unauthenticated, Forbidden),
            ),
            Operation(
                0, get, "/admin/tier-b", self.tier_b_report, None,
                "The always-on universe: asked, listed, missing by name", examples.TIER_B,
                (Unauthenticated, Forbidden),
            ),
            Operation(
                0, get, "/admin/access-log", self.access_log, access_schemas.AccessLog,
                "Sign-ins, failures and admin actions, newest first", examples.ACCESS_LOG,
                (Unauthenticated, Forbidden, StoreUnavailable), query="/admin/access-log?action=SIGN_IN&limit=1",
            ),
            Operation(
                0, get, "/admin/viewers", self.viewers, access_schemas.Viewers,
                "Who saw prices: distinct users and addresses by day and segment, for the exchanges' reports",
                examples.VIEWERS, (Unauthenticated, Forbidden, StoreUnavailable),
                query="/admin/viewers?since=2026-02-01",
            ),
        ]  # fmt: skip

    async def unsubscribe_all_tier_a(self, caller: Caller) -> Response:
        count = await self._services.watchlists.unsubscribe_all_tier_a(f"unsubscribed by {caller.name}")
        message = f"{count} Tier A instruments unsubscribed"
        return JsonAnswer({"action": "unsubscribe_all_tier_a", "count": count, "message": message})

    async def clear_watchlists(
        self, caller: Caller, user: UserQuery = None, body: schemas.ClearRequest | None = None
    ) -> Response:
        """`user_id` in the body or in the query; in neither: every user's. With authentication on it must be known."""
        told = None if body is None else body.user_id
        if None not in (user, told) and user != told:
            raise InvalidRequest("user_id: the query and the body name different users", field="user_id")
        user_id = told or user
        if user_id is not None and caller.has_token:
            await require_known(self._services, user_id)
        whose = "every user" if user_id is None else f"user {user_id}"  # the line of the path does not show a body
        await self._services.authenticator.note(caller, AccessAction.ACTED_FOR, f"{whose}: clear lists")
        count = await self._services.watchlists.clear(user_id)
        return JsonAnswer({"action": "clear_watchlists", "user_id": user_id, "success": True, "cleared_count": count})

    async def ws_status(self) -> Response:
        return JsonAnswer(self._services.pool.get_status())

    async def rebalance_ws(self) -> Response:
        moves = self._services.pool.rebalance()
        pairs: dict[tuple[int, int], int] = {}
        for move in moves:
            pair = (move.source, move.target)
            pairs[pair] = pairs.get(pair, 0) + 1
        details = [
            {"from": f"ws_{source + 1}", "to": f"ws_{target + 1}", "count": count}
            for (source, target), count in sorted(pairs.items())
        ]
        return JsonAnswer({"action": "rebalance", "moved_count": len(moves), "details": details})

    async def registry_report(self) -> Response:
        return JsonAnswer(dict(self._services.registry_admin()))

    async def tier_b_report(self) -> Response:
        return JsonAnswer(dict(self._services.control.tier_b_report()))

    async def viewers(self, since: SinceDay = None) -> Response:
        """From that day on; a month if left out. What was seen in the last seconds is in it."""
        await self._services.audience.flush()
        first = since or self._services.clock.now().date() - timedelta(days=limits.VIEWERS_DAYS)
        counts = await self._services.store.viewer_counts(first)
        return JsonAnswer({"since": first, "count": len(counts), "viewers": counts})

    async def access_log(
        self,
        action: Annotated[AccessAction | None, Query()] = None,
        user_id: UserQuery = None,
        limit: LogLimit = limits.PAGE_DEFAULT,
        cursor: Cursor = None,
    ) -> Response:
        before_id = None if cursor is None else read_number_cursor("access", cursor)
        lines = await self._services.store.access_log(AccessFilter(user_id, action, before_id, limit + 1))
        following = write_cursor("access", str(lines[limit - 1].id)) if len(lines) > limit else None
        zone = self._services.calendar.zone
        shown = [replace(line, timestamp=line.timestamp.astimezone(zone)) for line in lines[:limit]]
        return JsonAnswer({"count": len(shown), "next": following, "log": shown})


class SignInRoutes:
    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    def operations(self) -> list[Operation]:
        return [
            Operation(
                0, "POST", "/auth/token", self.sign_in, access_schemas.Token,
                "Sign in with name and password (OAuth2 password form)", examples.TOKEN,
                (Unauthenticated, Forbidden, RateLimited, StoreUnavailable),
            ),
            Operation(
                0, "GET", "/auth/me", self.me, access_schemas.Me,
                "Who the caller is taken for, and until when", examples.ME, (Unauthenticated, StoreUnavailable),
            ),
            Operation(
                0, "POST", "/auth/sign-out", self.sign_out, access_schemas.SignedOut,
                "End this sign-in, or all of the caller's", {"ended": 1}, (Unauthenticated, StoreUnavailable),
            ),
        ]  # fmt: skip

    async def me(self, caller: Caller) -> Response:
        told = ("user_id", "name", "role", "expires_ms", "session")
        return JsonAnswer({name: getattr(caller, name) for name in told})

    async def sign_in(self, request: Request, form: SignInForm) -> Response:
        """With `scope=offline_access` also a `refresh_token`; the grant `refresh_token` exchanges it, once."""
        if form.grant_type == "refresh_token":
            return JsonAnswer(await self._authenticator.refresh(form.refresh_token, request.scope))
        wanted = form.is_refreshable
        token = await self._authenticator.sign_in(form.username, form.password, request.scope, refreshable=wanted)
        return JsonAnswer(token)

    async def sign_out(self, caller: Caller, everywhere: EverywhereQuery = False) -> Response:
        """Revokes the caller's tokens at once, refresh token included; open streams follow within seconds."""
        return JsonAnswer({"ended": await self._authenticator.sign_out(caller, everywhere=everywhere)})
