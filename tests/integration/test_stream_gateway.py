"""Streams of a gateway, whose sign-ins are looked at in the process that owns the feed."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import pytest
from websockets.asyncio.client import connect

from app.ports.store import Role
from app.rest.feed_link import _refusal
from tests.integration.test_stream_ws import Service, hear, say


@pytest.mark.parametrize("code", ["STORE_UNAVAILABLE", "RATE_LIMITED"])
async def test_a_gateway_goes_on_where_the_feeds_process_cannot_tell_sessions(
    monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    async with Service("required", session_look_s=0.02) as service:
        asked = asyncio.Event()

        async def refused(_link: object, _sessions: Collection[str]) -> set[str]:
            asked.set()
            raise _refusal({"code": code, "detail": "not now"})

        token = await service.token("asha", Role.USER)
        async with connect(service.url, additional_headers={"Authorization": f"Bearer {token}"}) as viewer:
            await say(viewer, op="ping")
            assert (await hear(viewer))["type"] == "pong"
            with monkeypatch.context() as patch:
                patch.setattr(type(service.authenticator), "live", refused)
                rounds = asyncio.create_task(service.endpoint.watch_sessions())
                await asyncio.wait_for(asked.wait(), 10)
                await asyncio.sleep(0)
            assert not rounds.done()
            await service.authenticator.sign_out(await service.authenticator.authenticate(token))
            assert (await hear(viewer))["code"] == "UNAUTHENTICATED"
        rounds.cancel()
