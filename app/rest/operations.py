"""One operation of the API as a value: path, endpoint, model and examples in one place for routes, OpenAPI and docs."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response

from app.core.errors import (
    AlreadyInWatchlist,
    BodyTooSlow,
    CapacityExceeded,
    ExpiryUnknown,
    Forbidden,
    InstrumentUnknown,
    InvalidRequest,
    ListExists,
    ListLimit,
    ListUnknown,
    NotEntitled,
    NotInWatchlist,
    Overloaded,
    PayloadTooLarge,
    RateLimited,
    SpotUnknown,
    StoreUnavailable,
    TerminalError,
    Unauthenticated,
)
from app.rest.answers import PROBLEM_MEDIA_TYPE, PROBLEM_TYPE_PREFIX, JsonAnswer, title_of
from app.rest.auth import Principal
from app.rest.schemas import Problem

Endpoint = Callable[..., Coroutine[Any, Any, Response]]
ErrorClass = type[TerminalError]

API = "/api/v2"
PROBLEM_DETAILS: Mapping[ErrorClass, tuple[str, Mapping[str, object]]] = {
    InstrumentUnknown: ("no instrument RELIANCEE; did you mean RELIANCE?", {}),
    ExpiryUnknown: ("RELIANCE has no expiry 27FEB2026", {"valid": ["26FEB2026", "30MAR2026"]}),
    NotInWatchlist: ("RELIANCE 26FEB2026 is not in the watchlist of user 1", {}),
    AlreadyInWatchlist: ("RELIANCE 26FEB2026 is in the watchlist of user 1 already", {}),
    ListUnknown: ("user 1 has no list swing", {"list": "swing"}),
    ListExists: ("user 1 has a list swing already", {}),
    ListLimit: ("a list has at most 1000 entries", {"limit": 1000}),
    CapacityExceeded: ("50 more instruments do not fit", {"short": 12}),
    SpotUnknown: ("no spot price yet and none given", {}),
    Unauthenticated: ("this needs a bearer token; POST /api/v2/auth/token gives one", {}),
    Forbidden: ("user 7 may not act for user 8", {}),
    NotEntitled: ("user 7 may not see prices of MCX_COMM", {"segments": ["MCX_COMM"]}),
    RateLimited: ("too many failed sign-ins; try again in 280 s", {"retry_after_s": 280}),
    Overloaded: ("512 requests are being answered, no more at once", {"retry_after_s": 2}),
    PayloadTooLarge: ("a body may have at most 65536 bytes", {}),
    BodyTooSlow: ("a body has to be here within 20 s", {}),
    StoreUnavailable: ("the database cannot be reached", {}),
    InvalidRequest: (
        "user_id: Input should be greater than or equal to 1",
        {
            "errors": [
                {
                    "field": "user_id",
                    "in": "body",
                    "message": "Input should be greater than or equal to 1",
                    "type": "greater_than_equal",
                }
            ]
        },
    ),
}
_IDEMPOTENCY_PARAMETER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A repeat with the same key and body gets the first answer; another body is refused with 422.",
    "schema": {"type": "string", "maxLength": 255},
}


async def _principal(request: Request) -> Principal:
    principal: Principal = request.scope["principal"]  # the gate put it there
    return principal


Caller = Annotated[Principal, Depends(_principal)]


@dataclass(frozen=True, slots=True)
class Operation:
    """``number`` is the contract's, 0 for endpoints beside the sixteen. ``path`` is relative to ``/api/v2``.

    ``is_users``: answers callers about what is theirs, as the numbered ones do, and not about the service.
    """

    number: int
    method: str
    path: str
    endpoint: Endpoint
    model: type[BaseModel] | None
    summary: str
    answer: object
    errors: Sequence[ErrorClass] = ()
    request: Mapping[str, object] | None = None
    query: str = ""  # an example's path and query, without the prefix
    is_users: bool = False
    answer_class: type[Response] = JsonAnswer

    @property
    def needs_caller(self) -> bool:
        return self.is_users or self.number > 0

    @property
    def is_write(self) -> bool:
        return self.method == "POST"


def add_operations(router: APIRouter, tag: str, operations: Sequence[Operation]) -> None:
    """Register operations in their order: the first path that fits wins."""
    for operation in operations:
        router.add_api_route(
            operation.path,
            operation.endpoint,
            methods=[operation.method],
            response_model=operation.model,
            response_class=operation.answer_class,
            name=operation.endpoint.__name__,
            operation_id=operation.endpoint.__name__,
            summary=operation.summary,
            tags=[tag],
            responses=_responses(operation),
            openapi_extra=_extra(operation),
        )
        if operation.is_write:
            # Else a later ``/watchlist/{user_id}`` would take ``add`` for a user.
            router.add_api_route(operation.path, _post_only, methods=["GET"], include_in_schema=False)


async def _post_only() -> Response:
    raise HTTPException(405, headers={"Allow": "POST"})


def _responses(operation: Operation) -> dict[int | str, dict[str, Any]]:
    described: dict[int | str, dict[str, Any]] = {
        200: {"description": "Done", "content": {operation.answer_class.media_type: {"example": operation.answer}}}
    }
    of_caller = (Unauthenticated, Forbidden, RateLimited) if operation.needs_caller else ()
    of_body = (PayloadTooLarge, BodyTooSlow) if operation.is_write else ()
    for error in dict.fromkeys((*operation.errors, InvalidRequest, *of_body, *of_caller, Overloaded)):
        entry = described.setdefault(error.http_status, _problem_answer())
        examples = entry["content"][PROBLEM_MEDIA_TYPE]["examples"]
        examples[error.code] = {"value": problem_example(error, operation)}
        entry["description"] = ", ".join(examples)
    return described


def _problem_answer() -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": "", "content": {PROBLEM_MEDIA_TYPE: {"schema": schema, "examples": {}}}}


def problem_example(error: ErrorClass, operation: Operation) -> dict[str, object]:
    """The document that this error would give on this operation."""
    detail, extra = PROBLEM_DETAILS[error]
    return {
        "type": PROBLEM_TYPE_PREFIX + error.code.lower().replace("_", "-"),
        "title": title_of(error.code),
        "status": error.http_status,
        "detail": detail,
        "instance": example_path(operation).partition("?")[0],
        "code": error.code,
        **extra,
    }


def example_path(operation: Operation) -> str:
    """Path and query of the operation's example request."""
    return API + (operation.query or operation.path)


def _extra(operation: Operation) -> dict[str, Any]:
    extra: dict[str, Any] = {"x-example-path": example_path(operation), "x-number": operation.number}
    if operation.is_write and operation.needs_caller:
        extra["parameters"] = [_IDEMPOTENCY_PARAMETER]
    if operation.request is not None:
        extra["requestBody"] = {"content": {"application/json": {"example": dict(operation.request)}}}
    return extra


def install_openapi(app: FastAPI, version: str, operations: Sequence[Operation]) -> None:
    """Serve one OpenAPI document, with the problem schema and the sign-in."""
    told = (operation for operation in operations if operation.answer_class is JsonAnswer)
    answers = {operation.endpoint.__name__: operation.answer for operation in told}

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app, version, answers)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _document(app: FastAPI, version: str, answers: Mapping[str, object]) -> dict[str, Any]:
    document = get_openapi(
        title="Broking Terminal API",
        version=version,
        description="Two-tier market-data subscriptions: watchlists, option chains, and what every number rests on.",
        routes=app.routes,
    )
    components = document.setdefault("components", {})
    components.setdefault("schemas", {})["Problem"] = Problem.model_json_schema()
    components["securitySchemes"] = {
        "bearer": {"type": "oauth2", "flows": {"password": {"tokenUrl": f"{API}/auth/token", "scopes": {}}}}
    }
    for path, methods in document["paths"].items():
        for operation in methods.values():
            _tidy(path, operation)
            if operation["operationId"] in answers:
                # Put in again: the framework leaves nulls out, and what is null is part of what an example shows.
                operation["responses"]["200"]["content"]["application/json"]["example"] = answers[
                    operation["operationId"]
                ]
    return document


def _tidy(path: str, operation: dict[str, Any]) -> None:
    if path.startswith(API) and not path.endswith("/auth/token"):
        operation["security"] = [{"bearer": []}, {}]  # none is needed on plain loopback
    if "422" in operation["responses"]:
        # The framework describes its own 422 form, which this service never sends.
        operation["responses"]["422"]["content"].pop("application/json", None)
