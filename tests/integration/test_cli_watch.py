"""``bt watch`` over a real socket: what ends it and what it outlives."""

from __future__ import annotations

import asyncio
import io
import json

import pytest
from rich.console import Console
from websockets.asyncio.server import ServerConnection, serve

from app.cli import watch
from app.cli.failure import CommandFailed, Exit

SNAPSHOT: dict[str, object] = {"type": "snapshot", "topic": "status", "seq": 1, "data": {"total": 1}}
AWAY: dict[str, object] = {"type": "error", "code": "FEED_AWAY", "detail": "the feed's process does not answer"}


class Gateway:
    """Tells each connection the next of its scripts and, where that ends in an error, says to try later."""

    def __init__(self, *scripts: list[dict[str, object]]) -> None:
        self.scripts = list(scripts)

    async def __call__(self, connection: ServerConnection) -> None:
        await connection.recv()  # the topics wished for
        for message in self.scripts.pop(0):
            await connection.send(json.dumps(message))
            if message["type"] == "error":
                await connection.close(1013)
        await connection.wait_closed()

    async def watched(self, updates: int) -> str:
        console = Console(file=io.StringIO(), width=200, force_terminal=True)
        async with serve(self, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            seen = watch.watch(f"http://127.0.0.1:{port}", None, "status", console, updates)
            await asyncio.wait_for(seen, 10)
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue()


async def test_a_watch_through_a_gateway_outlives_a_restart_of_the_feed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "RETRY_S", 0.01)
    gateway = Gateway([SNAPSHOT, AWAY], [AWAY], [SNAPSHOT, SNAPSHOT])
    shown = await gateway.watched(updates=2)
    assert gateway.scripts == []
    assert "connection lost" in shown


async def test_a_feed_that_is_away_from_the_start_is_told() -> None:
    with pytest.raises(CommandFailed, match="FEED_AWAY") as failed:
        await Gateway([AWAY]).watched(updates=1)
    assert failed.value.exit_code is Exit.UNREACHABLE
