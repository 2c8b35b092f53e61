"""Answers about who comes in."""

from __future__ import annotations

from datetime import date, datetime

from pydantic import Field

from app.ports.access import AccessAction
from app.rest.schemas import Answer


class Token(Answer):
    access_token: str
    token_type: str
    expires_in: int
    user_id: int
    refresh_token: str | None = Field(default=None, description="only with `scope=offline_access`")


class Me(Answer):
    user_id: int
    name: str
    role: str
    expires_ms: int | None
    session: str = Field(description="names the sign-in; empty without a token")


class SignedOut(Answer):
    ended: int


class AccessLine(Answer):
    id: int
    action: AccessAction
    user_id: int | None
    name: str
    address: str
    detail: str
    timestamp: datetime


class AccessLog(Answer):
    count: int
    next: str | None
    log: list[AccessLine]


class ViewerLine(Answer):
    day: date
    segment: str
    users: int = Field(description="distinct `users.id`")
    addresses: int


class Viewers(Answer):
    since: date
    count: int
    viewers: list[ViewerLine]
