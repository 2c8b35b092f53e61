"""For whom a request acts."""

from __future__ import annotations

from app.core.errors import InvalidRequest
from app.rest.auth import Principal
from app.rest.services import Services


async def require_user(services: Services, caller: Principal, user_id: int) -> None:
    """Let the caller act for that user. Without a token any positive integer is a user: the lists make it on first use.

    Raises:
        Forbidden: somebody else's, and the caller is no admin.
        InvalidRequest: authentication is on and there is no such user.
    """
    caller.require_act_for(user_id)
    if caller.has_token and caller.user_id != user_id and await services.store.user_by_id(user_id) is None:
        raise InvalidRequest(f"user_id: there is no user {user_id}", field="user_id")
