"""``bt watch`` over a real socket: what ends it and what it outlives."""

from __future__ import annotations

import asyncio
import io
import json

import pytest
from rich.console import Console
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from app.cli import watch
from app.cli.failure import CommandFailed, Exit

SNAPSHOT: dict[str, object] = {"type": "snapshot", "topic": "status", "seq": 1, "data": {"total": 1}}
AWAY: dict[str, object] = {"type": "error", "code": "FEED_AWAY", "detail": "the feed's process does not answer"}


class Gateway:
    """Tells each connection the next of its scripts. An error ends it with 1013, a number with that code; a script that
    is one HTTP status refuses the handshake."""

    def __init__(self, *scripts: list[dict[str, object] | int]) -> None:
        self.scripts = list(scripts)

    def admit(self, connection: ServerConnection, request: Request) -> Response | None:
        if self.scripts[0] != [503]:
            return None
        self.scripts.pop(0)
        return connection.respond(503, "full")

    async def __call__(self, connection: ServerConnection) -> None:
        await connection.recv()  # the topics wished for
        for message in self.scripts.pop(0):
            if isinstance(message, int):
                await connection.close(message)
                return
            await connection.send(json.dumps(message))
            if message["type"] == "error":
                await connection.close(1013)
        await connection.wait_closed()

    async def watched(self, updates: int) -> str:
        console = Console(file=io.StringIO(), width=200, force_terminal=True)
        async with serve(self, "127.0.0.1", 0, process_request=self.admit) as server:
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


async def test_a_server_that_closes_politely_or_is_full_is_asked_again_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []
    sleep = asyncio.sleep

    async def wait(seconds: float) -> None:
        waits.append(seconds)
        await sleep(0)

    monkeypatch.setattr(watch.asyncio, "sleep", wait)  # type: ignore[attr-defined]
    gateway = Gateway([SNAPSHOT, 1001], [503], [1000], [SNAPSHOT, SNAPSHOT])
    shown = await gateway.watched(updates=2)
    assert waits.count(watch.RETRY_S) == 3
    assert "(1001)" in shown
    assert "503" in shown
