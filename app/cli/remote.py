"""A running service, over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx

from app.cli.failure import CommandFailed, Exit

TIMEOUT_S = 15.0


class Remote:
    """The service at ``url``; answers are decoded JSON, problems become one-line failures.

    Raises ``CommandFailed`` for a URL or a token that cannot be one.
    """

    def __init__(self, url: str, token: str | None = None, transport: httpx.BaseTransport | None = None) -> None:
        self.url = url.rstrip("/")
        self.token = token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if token and not (token.isascii() and token.isprintable()):
            raise CommandFailed("the access token (--token, BT_TOKEN) holds characters that no token has")
        try:
            self._client = httpx.Client(base_url=self.url, headers=headers, timeout=TIMEOUT_S, transport=transport)
        except httpx.InvalidURL as error:
            raise CommandFailed(f"--url was {url!r}: {error}") from None

    def __enter__(self) -> Remote:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """The answer to a GET.

        Raises:
            CommandFailed: unreachable, or refused with a problem.
        """
        given = {name: value for name, value in query.items() if value is not None}
        return self._read("GET", path, params=given)

    def ask(self, path: str) -> tuple[int, dict[str, Any]]:
        """Status and body of a GET, whatever the status. Raises ``CommandFailed`` when unreachable."""
        response = self._send("GET", path)
        try:
            return response.status_code, dict(response.json())
        except ValueError:
            return response.status_code, {}

    def _read(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        response = self._send(method, path, **options)
        try:
            body: dict[str, Any] = response.json()
        except ValueError:
            raise CommandFailed(f"{self.url}{path} answered {response.status_code} without JSON") from None
        if response.is_success:
            return body
        raise CommandFailed(refusal(body), Exit.REFUSED)

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            return self._client.request(method, path, **options)
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise CommandFailed(
                f"no service at {self.url}: {reason}; start one with: bt serve", Exit.UNREACHABLE
            ) from None


def refusal(body: Mapping[str, Any]) -> str:
    """A problem document as one line."""
    line = f"{body.get('code', 'error')}: {body.get('detail', body)}"
    if body.get("valid"):
        line += "; valid: " + ", ".join(map(str, body["valid"]))
    return line


def in_path(text: str) -> str:
    """A symbol or token as one path segment: ``M&M`` and ``NIFTY 50`` hold characters that mean something there."""
    return quote(text, safe="")
