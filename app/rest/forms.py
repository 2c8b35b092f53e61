"""The one form of the API: OAuth2's password grant."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Form
from pydantic import BaseModel, ConfigDict, Field

from app.rest import limits


class PasswordForm(BaseModel):
    """``application/x-www-form-urlencoded``, as RFC 6749 section 4.3 has it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    username: str = Field(min_length=1, max_length=limits.USER_NAME_CHARS_MAX)
    password: str = Field(min_length=1, max_length=limits.PASSWORD_CHARS_MAX, repr=False)
    grant_type: Literal["password"] = "password"


SignInForm = Annotated[PasswordForm, Form()]
