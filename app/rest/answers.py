"""What goes over HTTP: JSON through orjson, problems as RFC 9457.

Floats are written in their shortest exact form, NaN and infinities become null, aware datetimes keep their offset.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

import orjson
from starlette.responses import JSONResponse, Response

from app.core.errors import FeedAway, Overloaded, RateLimited, StoreUnavailable, TerminalError, Unauthenticated

PROBLEM_MEDIA_TYPE = "application/problem+json"
PROBLEM_TYPE_PREFIX = "urn:broking-terminal:problem:"
_RESERVED = frozenset({"type", "title", "status", "detail", "instance", "code"})
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


def encode(content: object) -> bytes:
    """JSON bytes of plain values, dataclasses, enums, datetimes and numpy scalars; sets and tuples become lists."""
    return orjson.dumps(content, default=_plain, option=_OPTIONS)


def _plain(value: object) -> object:
    if isinstance(value, tuple | set | frozenset):
        return list(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


class JsonAnswer(JSONResponse):
    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return content if isinstance(content, bytes) else encode(content)


def problem(
    status: int,
    code: str,
    detail: str,
    instance: str,
    *,
    extra: Mapping[str, object] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """One problem document. ``extra`` members never replace the standard ones."""
    document: dict[str, object] = {
        "type": PROBLEM_TYPE_PREFIX + code.lower().replace("_", "-"),
        "title": title_of(code),
        "status": status,
        "detail": detail,
        "instance": instance,
        "code": code,
    }
    document.update((name, value) for name, value in (extra or {}).items() if name not in _RESERVED)
    return Response(encode(document), status, dict(headers or {}), PROBLEM_MEDIA_TYPE)


def title_of(code: str) -> str:
    """``STORE_UNAVAILABLE`` as ``Store unavailable``."""
    return code.replace("_", " ").capitalize()


def problem_of(error: TerminalError, instance: str) -> Response:
    """The document of an error of the house, with the headers that its status asks for."""
    return problem(error.http_status, error.code, error.detail, instance, extra=error.extra, headers=_headers_of(error))


def _headers_of(error: TerminalError) -> dict[str, str]:
    if isinstance(error, Unauthenticated):
        return {"WWW-Authenticate": "Bearer"}
    if isinstance(error, RateLimited | Overloaded):
        return {"Retry-After": str(error.extra.get("retry_after_s", 60))}
    if isinstance(error, StoreUnavailable | FeedAway):
        return {"Retry-After": "5"}
    return {}


def phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in HTTPStatus.__members__.values() else "Error"


def join_objects(head: Mapping[str, object], name: str, rows: Iterable[bytes]) -> bytes:
    """``head`` plus a last member ``name``: a list whose elements, or runs of them, are encoded already."""
    start = encode(head)
    comma = b"," if len(start) > 2 else b""
    return start[:-1] + comma + encode(name) + b":[" + b",".join(rows) + b"]}"
