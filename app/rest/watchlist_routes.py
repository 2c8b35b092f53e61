"""Endpoints 1 to 3, and 14: lists of wishes."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path
from starlette.responses import Response

from app.core.errors import InvalidRequest
from app.rest import examples, schemas
from app.rest.answers import JsonAnswer
from app.rest.auth import Principal
from app.rest.operations import Caller
from app.rest.services import Services
from app.rest.windows import known_spot, window_answer

UserInPath = Annotated[int, Path(ge=1, le=2**31 - 1, description="`users.id`", examples=[1])]


async def require_user(services: Services, caller: Principal, user_id: int) -> None:
    """Let the caller act for that user. Without authentication any positive integer is a user, made on first use.

    Raises:
        Forbidden: somebody else's, and the caller is no admin.
        InvalidRequest: authentication is on and there is no such user.
    """
    caller.require_act_for(user_id)
    if not caller.has_token:
        await services.store.ensure_user(user_id)
    elif caller.user_id != user_id and await services.store.user_by_id(user_id) is None:
        raise InvalidRequest(f"user_id: there is no user {user_id}", field="user_id")
