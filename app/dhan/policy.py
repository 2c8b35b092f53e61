"""What a refusal or a disconnect reason asks of the pool. Pure (contract, rule 13; protocol notes, 3.2 and 3.4).

The numbers go by Dhan's own table; its SDK prints other texts for 808 to 810. The doubling of a 429 is the pool's: it
must outlive a restart. How long 805, 806 and 429 wait is the pool's too: those are settings.
"""

from __future__ import annotations

from typing import Final

from app.ports.feed import FeedClosed, Retry

SAME_SET_REFUSED_DELAY_S: Final = 60.0

_BY_CODE: Final[dict[int, tuple[str, Retry, float]]] = {
    800: ("internal error at Dhan", Retry.BACKOFF, 0.0),
    804: ("more instruments than a connection may carry", Retry.BACKOFF, SAME_SET_REFUSED_DELAY_S),
    805: ("too many connections; another process on this account?", Retry.FEWER_SOCKETS, 0.0),
    806: ("this account has no data plan", Retry.SLOWLY, 0.0),
    807: ("access token expired", Retry.NEW_TOKEN, 0.0),
    808: ("client id or access token refused", Retry.NEW_TOKEN, 0.0),
    809: ("access token invalid", Retry.NEW_TOKEN, 0.0),
    810: ("client id invalid", Retry.STOP, 0.0),
}


def closed_by_code(code: int) -> FeedClosed:
    """The exchange said goodbye with a disconnect packet; an unknown reason means backoff."""
    what, retry, min_delay_s = _BY_CODE.get(code, ("a reason that is not documented", Retry.BACKOFF, 0.0))
    return FeedClosed(f"{code}: {what}", code=code, retry=retry, min_delay_s=min_delay_s)


def closed_by_http(status: int, body: str = "") -> FeedClosed:
    """The handshake was refused; ``body`` is what the server wrote, for the one case that it explains.

    400, 401 and 403 are almost always a bad or expired token (protocol notes, 3.4).
    """
    if "client id is blocked" in body.lower():
        return FeedClosed(f"HTTP {status}: the client id is blocked", code=status, retry=Retry.STOP)
    if status == 429:
        reason = "HTTP 429: refused for now, by account or network"
        return FeedClosed(reason, code=429, retry=Retry.RATE_LIMITED)
    if status in (400, 401, 403):
        reason = f"HTTP {status}: access token or data plan refused"
        return FeedClosed(reason, code=status, retry=Retry.NEW_TOKEN)
    return FeedClosed(f"HTTP {status} in answer to the handshake", code=status, retry=Retry.BACKOFF)
