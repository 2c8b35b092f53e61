"""The one place where errors become answers (design, section 5)."""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.core.errors import InvalidRequest, TerminalError
from app.rest.answers import phrase, problem, problem_of
from app.rest.middleware import PROTECTIVE

_CODES = {
    401: "UNAUTHENTICATED",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    413: "PAYLOAD_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
}
_FIELD_ERRORS_MAX = 20
NOT_JSON = "has to be a JSON object, sent with Content-Type: application/json"


def install_error_handlers(app: FastAPI) -> None:
    """Make every error of ``app`` a problem document, the framework's own included."""
    app.add_exception_handler(TerminalError, _on_terminal_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(Exception, _on_unexpected)


async def _on_terminal_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, TerminalError)
    return problem_of(error, request.url.path)


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    fields = [_field_error(item) for item in error.errors()[:_FIELD_ERRORS_MAX]]
    first = fields[0] if fields else {"field": "request", "message": "not understood"}
    detail = f"{first['field']}: {first['message']}"
    return problem(422, InvalidRequest.code, detail, request.url.path, extra={"errors": fields})


def _field_error(item: dict[str, object]) -> dict[str, object]:
    """Where and what; never the value itself, which may be a password."""
    place = item.get("loc", ())
    parts = [str(part) for part in place] if isinstance(place, Sequence) else []
    if item.get("type") == "json_invalid":
        parts = parts[:1]  # what follows is a place in the text, no field
    field = ".".join(parts[1:]) or (parts[0] if parts else "request")
    is_text = parts == ["body"] and isinstance(item.get("input"), bytes)  # it was not looked into
    return {
        "field": field,
        "in": parts[0] if parts else "request",
        "message": NOT_JSON if is_text else item.get("msg"),
        "type": item.get("type"),
    }


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = 422 if error.status_code == 400 else error.status_code  # the framework's word for an unreadable body
    code = _CODES.get(status, "INTERNAL" if status >= 500 else "INVALID_REQUEST")
    return problem(status, code, _detail_of(request, error), request.url.path, headers=error.headers)


def _detail_of(request: Request, error: HTTPException) -> str:
    if error.status_code == 404 and error.detail == phrase(404):
        return f"nothing is served at {request.url.path}; /docs lists what is"
    if error.status_code == 405 and error.detail == phrase(405):
        return f"{request.method} is not served at {request.url.path}"
    return str(error.detail)


async def _on_unexpected(request: Request, error: Exception) -> Response:
    structlog.get_logger().error("request_failed", path=request.url.path, error=type(error).__name__)
    detail = "the service failed on this request; its log has more"
    # The framework sends this one from outside of every layer, so it brings the headers itself.
    return problem(500, TerminalError.code, detail, request.url.path, headers=PROTECTIVE)
