"""Answers shown in OpenAPI and in the reference; a test holds each to its model."""

from __future__ import annotations

from typing import Any

_WHEN = "2026-02-03T10:15:00.412000+05:30"
_CE, _PE = "RELIANCE_26FEB2026_2640CE", "RELIANCE_26FEB2026_2640PE"

WINDOW: dict[str, Any] = {
    "symbol": "RELIANCE",
    "expiry": "26FEB2026",
    "underlying_ltp": 2641.5,
    "underlying_source": "request",
    "underlying_age_ms": None,
    "exchange": "NSE",
    "atm_strike": 2640.0,
    "strike_step": 20.0,
    "strikes": [2620.0, 2640.0, 2660.0],
    "strikes_ce_pe": {"2640": {"CE": _CE, "PE": _PE}},
    "cached_at": _WHEN,
    "cache_ttl_seconds": 300,
}
CHAIN = {**WINDOW, "rows": None, "summary": None, "coverage": None}
ADD_REQUEST: dict[str, Any] = {
    "user_id": 1,
    "symbol": "RELIANCE",
    "expiry": "26FEB2026",
    "instrument_type": "STOCK_OPTION",
    "underlying_ltp": 2641.5,
}
ADDED: dict[str, Any] = {
    "success": True,
    "message": "RELIANCE 26FEB2026 added: 50 instruments",
    "option_chain": WINDOW,
    "strikes_subscribed": 50,
    "missing": [],
    "evicted": [],
    "revision": 12,
}
REMOVE_REQUEST: dict[str, Any] = {"user_id": 1, "symbol": "RELIANCE", "expiry": "26FEB2026"}
REMOVED: dict[str, Any] = {"success": True, "message": "RELIANCE 26FEB2026 removed", "unsubscribed": 50}
WATCHLIST: dict[str, Any] = {
    "user_id": 1,
    "count": 1,
    "watchlist": [
        {
            "id": 1,
            "list": "default",
            "position": 1,
            "symbol": "RELIANCE",
            "expiry_date": "26FEB2026",
            "instrument_type": "STOCK_OPTION",
            "added_at": _WHEN,
            "added_order": 1,
            "state": "ACTIVE",
        }
    ],
}
_ENTRY: dict[str, Any] = WATCHLIST["watchlist"][0]
_LISTS = [
    {"name": "default", "position": 1, "count": 1, "evicted": 0, "is_default": True},
    {"name": "swing", "position": 2, "count": 0, "evicted": 0, "is_default": False},
]
NAMED_LISTS: dict[str, Any] = {"user_id": 1, "count": 2, "lists": _LISTS}
CREATE_LIST: dict[str, Any] = {"user_id": 1, "name": "swing"}
RENAME_LIST: dict[str, Any] = {"user_id": 1, "list": "swing", "name": "positional"}
DELETE_LIST: dict[str, Any] = {"user_id": 1, "list": "swing"}
ORDER_LISTS: dict[str, Any] = {"user_id": 1, "lists": ["swing", "default"]}
LISTS_CHANGED: dict[str, Any] = {"success": True, "message": "list swing created", "lists": _LISTS}
LIST_DELETED: dict[str, Any] = {
    "success": True,
    "message": "list swing deleted, 2 entries removed",
    "removed": 2,
    "unsubscribed": 50,
    "lists": _LISTS[:1],
}
ORDER_ENTRIES: dict[str, Any] = {"user_id": 1, "list": "default", "ids": [3, 1, 2]}
LIST_ORDERED: dict[str, Any] = {
    "success": True,
    "message": "list default ordered",
    "list": "default",
    "watchlist": [_ENTRY],
}
MOVE_ENTRY: dict[str, Any] = {"user_id": 1, "id": 1, "list": "swing", "position": 1, "copy": False}
ENTRY_MOVED: dict[str, Any] = {
    "success": True,
    "message": "RELIANCE 26FEB2026 moved to swing",
    "list": "swing",
    "entry": {**_ENTRY, "list": "swing"},
    "evicted": [],
    "watchlist": [{**_ENTRY, "list": "swing"}],
}
CHAIN_REQUEST: dict[str, Any] = {"symbol": "RELIANCE", "expiry": "26FEB2026", "underlying_ltp": 2641.5}
CHAIN_SUBSCRIBED: dict[str, Any] = {
    "action": "subscribe",
    "subscribed": [_CE, _PE],
    "failed": [],
    "total_subscribed": 50,
    "released": 0,
    "evicted": [],
    "option_chain": WINDOW,
}
WS_STATUS: dict[str, Any] = {
    "total_subscriptions": 8515,
    "max_capacity": 25000,
    "utilization_percent": 34.06,
    "connected_connections": 5,
    "total_connections": 5,
    "per_connection": {
        "ws_1": {
            "active": True,
            "state": "UP",
            "instruments": 1703,
            "utilization_percent": 34.06,
            "last_connected": "2026-02-03T09:00:01.120000+05:30",
            "reconnect_attempts": 0,
            "last_error": None,
            "last_data_age_ms": 38,
            "packets_per_s": 3012.4,
            "lag_p50_ms": 530.0,
            "lag_p99_ms": 1050.0,
            "late": False,
        }
    },
}
COUNTS: dict[str, Any] = {
    "total_subscriptions": 8515,
    "max_capacity": 25000,
    "utilization_percent": 34.06,
    "tier_a_count": 50,
    "tier_b_count": 8465,
    "states": {"LIVE": 8410, "QUIET": 100, "SENT": 5},
    "forecast": {
        "free": 16485,
        "window_min": 10,
        "adds_per_min": 60.0,
        "net_per_min": 45.0,
        "full_by": "2026-02-03T16:22:00+05:30",
    },
}
STATUS: dict[str, Any] = {"subscriptions": COUNTS, "websocket": WS_STATUS}
ACTIVE: dict[str, Any] = {
    "tier": "TIER_A",
    "count": 1,
    "total": 50,
    "next": "YWN0aXZlOlJFTElBTkNFXzI2RkVCMjAyNl8yNjQwQ0U",
    "subscriptions": [
        {
            "token": _CE,
            "symbol": "RELIANCE",
            "expiry": "26FEB2026",
            "strike": 2640.0,
            "option_type": "CE",
            "tier": "TIER_A",
            "subscribed_at": _WHEN,
            "ws_id": 3,
            "active": True,
            "state": "LIVE",
            "owners": 1,
        }
    ],
}
LOG: dict[str, Any] = {
    "count": 1,
    "next": "bG9nOjE3",
    "log": [
        {"id": 17, "action": "SUBSCRIBE", "instrument_token": _CE, "reason": "added by user 1", "timestamp": _WHEN}
    ],
}
EXPORT = (
    "token,symbol,expiry,strike,option_type,tier,state,ws_id,owners,subscribed_at\r\n"
    f"{_CE},RELIANCE,26FEB2026,2640.0,CE,TIER_A,LIVE,3,1,{_WHEN}\r\n"
)
DETAIL: dict[str, Any] = {
    "token": _CE,
    "details": {
        "symbol": "RELIANCE",
        "expiry": "26FEB2026",
        "strike": 2640.0,
        "option_type": "CE",
        "tier": "TIER_A",
        "ws_id": 3,
        "state": "LIVE",
        "key": "NSE_FNO:47317",
        "lot_size": 500,
        "tick": 0.05,
        "lower_limit": 12.4,
        "upper_limit": 118.6,
        "freeze_qty": None,
    },
    "why": "sent on socket 3 at 10:15:00; last packet 0.2 s ago; usually one every 0.4 s",
}
SEARCH: dict[str, Any] = {
    "query": "REL",
    "count": 1,
    "results": [
        {"symbol": "RELIANCE", "count": 312, "f_o_eligible": True, "name": "RELIANCE INDUSTRIES LTD", "match": "prefix"}
    ],
}
INSTRUMENT: dict[str, Any] = {
    "symbol": "RELIANCE",
    "name": "RELIANCE INDUSTRIES LTD",
    "lot_size": 500,
    "tick": 0.05,
    "strike_step": 20.0,
    "segments": ["NSE_EQ", "NSE_FNO", "BSE_EQ"],
    "f_o_eligible": True,
    "nearest_future": "RELIANCE_26FEB2026_FUT",
}
EXPIRIES: dict[str, Any] = {"symbol": "RELIANCE", "expiries": ["26FEB2026", "30MAR2026"], "count": 2}
TIER_A_CLEARED: dict[str, Any] = {
    "action": "unsubscribe_all_tier_a",
    "count": 50,
    "message": "50 Tier A instruments unsubscribed",
}
CLEARED: dict[str, Any] = {"action": "clear_watchlists", "user_id": None, "success": True, "cleared_count": 3}
REBALANCED: dict[str, Any] = {
    "action": "rebalance",
    "moved_count": 40,
    "details": [{"from": "ws_1", "to": "ws_4", "count": 40}],
}
HEALTH: dict[str, Any] = {
    "status": "healthy",
    "reasons": [],
    "subscriptions": COUNTS,
    "websocket_status": WS_STATUS,
}
TOKEN: dict[str, Any] = {"access_token": "eyJhbGciOi…", "token_type": "bearer", "expires_in": 43200, "user_id": 7}
BARS: dict[str, Any] = {
    "symbol": "RELIANCE", "underlying": "RELIANCE_EQ", "exchange": "NSE", "expiry": "26FEB2026", "day": "2026-02-03",
    "interval_ms": 60_000, "start_ms": 1770090300000, "count": 2, "partial": True,
    "open": [2640.1, None], "high": [2642.0, None], "low": [2639.8, None], "close": [2641.5, None],
    "chain": {
        "straddle": [118.4, None], "atm_iv": [17.9, None], "ce_oi": [1200000.0, None], "pe_oi": [980000.0, None],
        "pcr": [0.82, None],
    },
}  # fmt: skip
ME: dict[str, Any] = {
    "user_id": 7,
    "name": "asha",
    "role": "user",
    "expires_ms": 1770179400000,
    "session": "q3hR0eWb2mZ8kT5vXn1c9A",
}
TOPIC_VERDICTS: dict[str, Any] = {
    "topics": [
        {"asked": "chain:NIFTY50:26FEB2026", "topic": None, "code": "EXPIRY_UNKNOWN",
         "detail": "NIFTY has no expiry 26FEB2026", "extra": {"valid": ["10FEB2026", "24FEB2026"]}},
        {"asked": "quotes:RELIANCE_EQ", "topic": "quotes:RELIANCE_EQ", "code": None, "detail": None, "extra": {}},
    ]
}  # fmt: skip
REGISTRY: dict[str, Any] = {
    "source": "generated",
    "date": "2026-02-03",
    "rows": 289000,
    "rows_by_segment": {"NSE_FNO": 180000},
    "left_out": {"test scrip": 12},
    "last_refused": None,
}
TIER_B: dict[str, Any] = {"asked": 8600, "listed": 8465, "missing": ["SENSEX: quarterly 2 not listed"]}
ACCESS_LOG: dict[str, Any] = {
    "count": 1,
    "next": "YWNjZXNzOjE",
    "log": [
        {
            "id": 1,
            "action": "SIGN_IN",
            "user_id": 7,
            "name": "asha",
            "address": "192.168.1.20",
            "detail": "",
            "timestamp": "2026-02-03T09:10:00+05:30",
        }
    ],
}
VIEWERS: dict[str, Any] = {
    "since": "2026-02-01",
    "count": 1,
    "viewers": [{"day": "2026-02-03", "segment": "NSE_FNO", "users": 4, "addresses": 5}],
}
