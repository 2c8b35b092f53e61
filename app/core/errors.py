"""Every error that may reach a user, with its stable code and HTTP status (contract, section 4)."""

from __future__ import annotations

from typing import Any, ClassVar


class TerminalError(Exception):
    """Base of all errors of the house.

    ``detail`` is one sentence for a person; ``extra`` are members added to the problem document.
    """

    code: ClassVar[str] = "INTERNAL"
    http_status: ClassVar[int] = 500
    retriable: ClassVar[bool] = False

    def __init__(self, detail: str, **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extra = extra


class InstrumentUnknown(TerminalError):
    code = "INSTRUMENT_UNKNOWN"
    http_status = 404


class ExpiryUnknown(TerminalError):
    """``valid=[…]`` lists the expiries that exist."""

    code = "EXPIRY_UNKNOWN"
    http_status = 404


class NotInWatchlist(TerminalError):
    code = "NOT_IN_WATCHLIST"
    http_status = 404


class AlreadyInWatchlist(TerminalError):
    code = "ALREADY_IN_WATCHLIST"
    http_status = 409


class ListUnknown(TerminalError):
    code = "LIST_UNKNOWN"
    http_status = 404


class ListExists(TerminalError):
    code = "LIST_EXISTS"
    http_status = 409


class ListLimit(TerminalError):
    """``limit=n``: how many there may be."""

    code = "LIST_LIMIT"
    http_status = 409


class CapacityExceeded(TerminalError):
    """``short=n``: how many instruments do not fit."""

    code = "CAPACITY_EXCEEDED"
    http_status = 409


class SpotUnknown(TerminalError):
    code = "SPOT_UNKNOWN"
    http_status = 409


class Unauthenticated(TerminalError):
    code = "UNAUTHENTICATED"
    http_status = 401


class Forbidden(TerminalError):
    code = "FORBIDDEN"
    http_status = 403


class NotEntitled(TerminalError):
    """``segments=[…]``: those whose prices this user may not see."""

    code = "NOT_ENTITLED"
    http_status = 403


class RateLimited(TerminalError):
    code = "RATE_LIMITED"
    http_status = 429
    retriable = True


class Overloaded(TerminalError):
    """More at once than the service takes; ``retry_after_s``."""

    code = "OVERLOADED"
    http_status = 503
    retriable = True


class PayloadTooLarge(TerminalError):
    code = "PAYLOAD_TOO_LARGE"
    http_status = 413


class BodyTooSlow(TerminalError):
    code = "BODY_TOO_SLOW"
    http_status = 408


class InvalidRequest(TerminalError):
    """A payload that parses but cannot be meant."""

    code = "INVALID_REQUEST"
    http_status = 422


class StoreUnavailable(TerminalError):
    code = "STORE_UNAVAILABLE"
    http_status = 503
    retriable = True


class FeedAway(TerminalError):
    """A gateway gets no answer from the process that owns the feed; a write may or may not have been done."""

    code = "FEED_AWAY"
    http_status = 503
    retriable = True


class AlreadyExists(Exception):
    """A store refused a second row where one is allowed."""


class MasterRefused(TerminalError):
    """An instrument file that may not replace the one in use; ``problems=[…]``."""

    code = "MASTER_REFUSED"
    http_status = 422


class BadFrame(Exception):
    """A frame whose bytes break the protocol; counted, the connection lives."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(f"byte {offset}: {reason}")
        self.offset = offset
        self.reason = reason
