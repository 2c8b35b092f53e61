"""Refusals and disconnect reasons, by the table of the contract's rule 13. How long some of them wait is a setting."""

from __future__ import annotations

import pytest

from app.dhan.policy import closed_by_code, closed_by_http
from app.ports.feed import FeedClosed, Retry

BY_CODE = {
    800: (Retry.BACKOFF, 0.0),
    804: (Retry.BACKOFF, 60.0),
    805: (Retry.FEWER_SOCKETS, 0.0),
    806: (Retry.SLOWLY, 0.0),
    807: (Retry.NEW_TOKEN, 0.0),
    808: (Retry.NEW_TOKEN, 0.0),
    809: (Retry.NEW_TOKEN, 0.0),
    810: (Retry.STOP, 0.0),
    811: (Retry.BACKOFF, 0.0),
    0: (Retry.BACKOFF, 0.0),
    65_535: (Retry.BACKOFF, 0.0),
}
BY_HTTP = {
    429: (Retry.RATE_LIMITED, 0.0),
    400: (Retry.NEW_TOKEN, 0.0),
    401: (Retry.NEW_TOKEN, 0.0),
    403: (Retry.NEW_TOKEN, 0.0),
    404: (Retry.BACKOFF, 0.0),
    500: (Retry.BACKOFF, 0.0),
    503: (Retry.BACKOFF, 0.0),
}


def asked(closed: FeedClosed) -> tuple[Retry, float]:
    return closed.retry, closed.min_delay_s


@pytest.mark.parametrize("code", BY_CODE)
def test_disconnect_reasons(code: int) -> None:
    closed = closed_by_code(code)
    assert asked(closed) == BY_CODE[code]
    assert closed.code == code
    assert closed.reason.startswith(f"{code}: ")


@pytest.mark.parametrize("status", BY_HTTP)
def test_refused_handshakes(status: int) -> None:
    closed = closed_by_http(status)
    assert asked(closed) == BY_HTTP[status]
    assert str(status) in closed.reason


def test_a_blocked_client_needs_a_person() -> None:
    assert asked(closed_by_http(403, "Your Client ID is blocked.")) == (Retry.STOP, 0.0)
