"""Dhan's numbers, with their units (protocol notes, sections 1.1, 3.1, 3.3 and 6)."""

from __future__ import annotations

from app.ports.feed import FeedLimits

CONNECTIONS_PER_ACCOUNT = 5
INSTRUMENTS_PER_CONNECTION = 5_000
INSTRUMENTS_PER_MESSAGE = 100

DHAN_LIMITS = FeedLimits(CONNECTIONS_PER_ACCOUNT, INSTRUMENTS_PER_CONNECTION, INSTRUMENTS_PER_MESSAGE)

PING_INTERVAL_S = 10.0  # the server pings
PONG_TIMEOUT_S = 40.0  # and closes a connection that has not answered for so long

TOKEN_LIFE_S = 24 * 3600.0
MINT_INTERVAL_S = 130.0  # Dhan allows one token in two minutes; a refusal costs another two
