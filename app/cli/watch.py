"""``bt watch``: a table that follows the stream."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidHandshake, InvalidStatus, WebSocketException

from app.cli.failure import CommandFailed, Exit
from app.cli.remote import Remote, in_path
from app.cli.show import DASH, first_expiry, number, strike_key
from app.core.errors import FeedAway, StoreUnavailable

COLUMNS = ("ltp", "change_pct", "bid", "ask", "volume", "oi", "iv", "state")
NARROW_COLUMNS = ("ltp", "change_pct", "oi", "iv", "state")
WIDE = 110  # characters
TOPICS = ("chain", "quotes", "watchlist", "depth", "status", "events")
ROWS_MAX = 40
OF_ROWS = frozenset({"rows", "instruments", "summary", "coverage"})
RATE_HZ = 4
RETRY_S = 2.0
TRY_LATER = frozenset({FeedAway.code, StoreUnavailable.code})
MESSAGE_BYTES_MAX = 8 * 1024 * 1024


class View:
    """What the stream has told so far: rows by token, a summary, the newest notices; of topics without rows, such as
    ``status`` and ``depth``, every member. Pure."""

    def __init__(self, topic: str, columns: Sequence[str] = COLUMNS) -> None:
        self.topic = topic
        self.columns = columns
        self.rows: dict[str, dict[str, Any]] = {}
        self.summary: dict[str, Any] = {}
        self.members: dict[str, Any] = {}
        self.notices: list[str] = []
        self.seq: int | None = None

    def take(self, message: Mapping[str, Any]) -> None:
        """Take one message of the server.

        Raises:
            CommandFailed: the server refused the topic.
            ConnectionResetError: it cannot serve for now, as while a gateway's feed restarts.
        """
        kind = message.get("type")
        if kind == "snapshot":
            self.rows.clear()
            self.members.clear()
            self._merge(message)
        elif kind == "delta":
            self._merge(message)
        elif kind == "event":
            self.notices = [*self.notices, f"{message.get('kind')}: {describe(message)}"][-3:]
        elif kind == "error":
            told = f"{message.get('code')}: {message.get('detail', message.get('message', ''))}"
            if message.get("code") in TRY_LATER:
                raise ConnectionResetError(told)
            raise CommandFailed(told, Exit.REFUSED)

    def _merge(self, message: Mapping[str, Any]) -> None:
        self.seq = message.get("seq")
        data = message.get("data") or {}
        for token, row in (data.get("rows") or {}).items():
            if row is None:
                self.rows.pop(token, None)
            else:
                self.rows.setdefault(token, {}).update(row)
        self.summary.update(data.get("summary") or {})
        _merge_into(self.members, {name: value for name, value in data.items() if name not in OF_ROWS})

    def table(self, note: str = "") -> Table:
        caption = note or " · ".join(self._told())
        table = Table(title=self.topic, caption=caption, box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
        if self.members:
            table.add_column("member", no_wrap=True)
            table.add_column("value", justify="right")
            for name, value in _flat(self.members):
                table.add_row(name, value)
            return table
        table.add_column("instrument", no_wrap=True)
        for name in self.columns:
            table.add_column(name.replace("_", " "), justify="right", no_wrap=True)
        for token, row in self._shown():
            table.add_row(token, *(_cell(name, row.get(name)) for name in self.columns))
        return table

    def _shown(self) -> list[tuple[str, dict[str, Any]]]:
        """The rows there is room for; of a long chain those around the money."""
        rows, atm = list(self.rows.items()), self.summary.get("atm_strike")
        middle = 0
        if isinstance(atm, int | float) and len(rows) > ROWS_MAX:
            call = f"_{strike_key(float(atm))}CE"
            middle = next((place for place, (token, _) in enumerate(rows) if token.endswith(call)), 0)
        first = max(0, min(middle - ROWS_MAX // 2, len(rows) - ROWS_MAX))
        return rows[first : first + ROWS_MAX]

    def _told(self) -> list[str]:
        told = [f"{name} {number(value)}" for name, value in self.summary.items() if value is not None]
        hidden = len(self.rows) - ROWS_MAX
        return [*told, *([f"{hidden} more rows"] if hidden > 0 else []), *self.notices]


def topic_of(remote: Remote, words: Sequence[str]) -> str:
    """The stream topic that a person means: a topic as it is, tokens, or a symbol with or without an expiry."""
    first = words[0]
    if first.partition(":")[0] in TOPICS or first in TOPICS:
        return first
    if any("_" in word for word in words):
        return "quotes:" + ",".join(part for word in words for part in word.split(",") if part)
    symbol = str(remote.get(f"/api/v2/instruments/{in_path(first)}")["symbol"])
    return f"chain:{symbol}:{words[1] if len(words) > 1 else first_expiry(remote, symbol)}"


def describe(event: Mapping[str, Any]) -> str:
    data = event.get("data") or {}
    return ", ".join(f"{name} {value}" for name, value in data.items()) or DASH


def _merge_into(members: dict[str, Any], changed: Mapping[str, Any]) -> None:
    """As the stream means it: objects member by member, everything else replaced whole."""
    for name, value in changed.items():
        held = members.get(name)
        if isinstance(held, dict) and isinstance(value, dict):
            _merge_into(held, value)
        else:
            members[name] = value


def _flat(members: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for name, value in members.items():
        inner = {str(place): each for place, each in enumerate(value, 1)} if isinstance(value, list) else value
        if isinstance(inner, dict):
            yield from _flat(inner, f"{above}{name} ")
        else:
            yield f"{above}{name}", number(inner)


def _cell(name: str, value: object) -> str:
    if name == "change_pct" and isinstance(value, int | float):
        return f"[{'green' if value >= 0 else 'red'}]{value:+.2f}[/]"
    return number(value)


def stream_url(url: str) -> str:
    return url.replace("http", "ws", 1) + "/api/v2/stream"


async def watch(url: str, token: str | None, topic: str, console: Console, updates: int | None = None) -> None:
    """Show a topic until interrupted, or until ``updates`` messages have come. Reconnects by itself.

    Raises:
        CommandFailed: refused, or unreachable from the start.
    """
    view = View(topic, COLUMNS if console.width >= WIDE else NARROW_COLUMNS)
    with Live(view.table("connecting"), console=console, auto_refresh=False) as live:
        while True:
            try:
                await _follow(url, token, view, live, updates)
                return
            except (OSError, WebSocketException) as error:
                if _is_refusal(error):
                    raise CommandFailed(f"{stream_url(url)} refused: {error}", Exit.REFUSED) from None
                if view.seq is None:
                    raise CommandFailed(f"no stream at {stream_url(url)}: {error}", Exit.UNREACHABLE) from None
                live.update(view.table(f"connection lost: {error}; connecting again"), refresh=True)
                await asyncio.sleep(RETRY_S)


def _is_refusal(error: Exception) -> bool:
    """A handshake that would end the same again; 5xx is said while a server is full or starts."""
    return isinstance(error, InvalidHandshake) and not (
        isinstance(error, InvalidStatus) and error.response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR
    )


async def _follow(url: str, token: str | None, view: View, live: Live, updates: int | None) -> None:
    """Read one connection until enough updates were shown.

    Raises:
        ConnectionResetError: the server ended it before, however politely.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with connect(stream_url(url), additional_headers=headers, max_size=MESSAGE_BYTES_MAX) as socket:
        wanted = {"op": "subscribe", "topics": [view.topic, "events"], "max_rate_hz": RATE_HZ}
        await socket.send(orjson.dumps(wanted).decode())
        seen = 0
        async for text in socket:
            message = orjson.loads(text)
            view.take(message)
            live.update(view.table(), refresh=True)
            seen += message.get("type") in ("snapshot", "delta")
            if updates is not None and seen >= updates:
                return
    raise ConnectionResetError(f"closed by the server ({socket.close_reason or socket.close_code})")
