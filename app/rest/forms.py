"""The one form of the API: OAuth2's password and refresh grants."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Form
from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.rest import limits

OFFLINE_ACCESS = "offline_access"


class TokenForm(BaseModel):
    """``application/x-www-form-urlencoded``, as RFC 6749 has it, sections 4.3 and 6."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    username: str = Field(default="", max_length=limits.USER_NAME_CHARS_MAX)
    password: str = Field(default="", max_length=limits.PASSWORD_CHARS_MAX, repr=False)
    grant_type: Literal["password", "refresh_token"] = "password"
    refresh_token: str = Field(default="", max_length=limits.BEARER_CHARS_MAX, repr=False)
    scope: str = Field(default="", max_length=200, description="`offline_access` asks for a refresh token too")

    @model_validator(mode="after")
    def _whole(self) -> TokenForm:
        if self.grant_type == "refresh_token" and not self.refresh_token:
            raise ValueError("the grant refresh_token needs a refresh_token")
        if self.grant_type == "password" and not (self.username and self.password):
            raise ValueError("the grant password needs username and password")
        return self

    @property
    def is_refreshable(self) -> bool:
        """Whether the client wants a refresh token with the answer."""
        return OFFLINE_ACCESS in self.scope.split()


SignInForm = Annotated[TokenForm, Form()]
