"""For whom a request acts."""

from __future__ import annotations

from app.core.errors import InvalidRequest
from app.ports.access import AccessAction
from app.ports.store import Role, UserRow
from app.rest.auth import Principal
from app.rest.services import Services


async def require_user(services: Services, caller: Principal, user_id: int, what: str) -> Role:
    """Let the caller act for that user, whose role is returned; an admin who does leaves a line in the access log.

    Without a token any positive integer is a user: the lists make it on first use.

    Raises:
        Forbidden: somebody else's, and the caller is no admin.
        InvalidRequest: authentication is on and there is no such user.
    """
    caller.require_act_for(user_id)
    if not caller.has_token or caller.user_id == user_id:
        return caller.role
    user = await require_known(services, user_id)
    await services.authenticator.note(caller, AccessAction.ACTED_FOR, f"user {user_id}: {what}")
    return user.role


async def require_known(services: Services, user_id: int) -> UserRow:
    """Raises ``InvalidRequest`` where there is no such user."""
    user = await services.store.user_by_id(user_id)
    if user is None:
        raise InvalidRequest(f"user_id: there is no user {user_id}", field="user_id")
    return user
