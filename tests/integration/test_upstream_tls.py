"""Everything that shows the broker a secret: nothing is said to a server whose certificate is not good."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import date
from pathlib import Path

import httpx
import pytest

from app.core.ids import Exchange, InstrumentKey, InstrumentKind, Segment
from app.core.instruments import Instrument
from app.core.sessions import INDIA
from app.dhan.credentials import MintRefused, TotpMinter
from app.dhan.option_chain import ChainRefused
from app.dhan.scrip_master import MasterDownload, MasterUnavailable
from app.market.live_prices import LivePrices
from app.ports.feed import FeedClosed
from app.runtime.clock import ShiftedClock
from app.runtime.upstream import Upstream, build_upstream
from app.settings import Settings
from tests.integration.test_live_feed import self_signed

NIFTY = Instrument(
    InstrumentKey(Segment.IDX_I, 13), "NIFTY_IDX", InstrumentKind.INDEX, Exchange.NSE, "NIFTY", "NIFTY", 75, 0.05
)
TOKEN, PIN, TOTP = "a-token-of-the-account", "135790", "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


class Impostor:
    """A TLS server with a certificate of its own making; ``heard`` is what clients said once inside."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, ssl.SSLError):
            self.heard += await reader.read(65_536)
        writer.close()


@asynccontextmanager
async def impostor(folder: Path) -> AsyncIterator[Impostor]:
    made = Impostor()
    context, _ = self_signed(folder)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=context)
    made.port = server.sockets[0].getsockname()[1]
    async with server:
        yield made


@asynccontextmanager
async def upstream_to(port: int, folder: Path) -> AsyncIterator[Upstream]:
    settings = Settings(  # type: ignore[call-arg]
        _env_file=None,
        bt_data_dir=folder,
        dhan_client_id="1000000001",
        dhan_access_token=TOKEN,
        dhan_feed_url=f"wss://127.0.0.1:{port}",
        dhan_api_url=f"https://127.0.0.1:{port}/v2",
        dhan_auth_url=f"https://127.0.0.1:{port}",
    )
    clock = ShiftedClock(INDIA, None)
    made = build_upstream(settings, LivePrices().buffers, clock, "a key", lambda: None)
    try:
        yield made
    finally:
        await made.http.aclose()


async def test_nothing_is_said_to_a_server_with_a_bad_certificate(tmp_path: Path) -> None:
    async with impostor(tmp_path) as server, upstream_to(server.port, tmp_path) as upstream:
        assert upstream.feed is not None
        with pytest.raises(FeedClosed, match=r"(?i)certificate"):
            await upstream.feed.connect(0)
        with pytest.raises(ChainRefused, match="ConnectError"):
            await upstream.chains.previous_oi(NIFTY, date(2026, 2, 26))
        clock = ShiftedClock(INDIA, None)
        minter = TotpMinter(upstream.http, f"https://127.0.0.1:{server.port}", "1000000001", PIN, TOTP, clock)
        with pytest.raises(MintRefused, match="ConnectError"):
            await minter.mint()
        download = MasterDownload(upstream.http, f"https://127.0.0.1:{server.port}/master.csv", tmp_path)
        with pytest.raises(MasterUnavailable):
            await download.fetch()
        assert bytes(server.heard) == b""


async def test_the_impostor_hears_who_does_not_verify(tmp_path: Path) -> None:
    """The test above could not fail if nobody could speak to that server."""
    async with impostor(tmp_path) as server, httpx.AsyncClient(verify=False) as careless:
        with pytest.raises(httpx.HTTPError):
            await careless.get(f"https://127.0.0.1:{server.port}/", headers={"access-token": TOKEN})
        assert TOKEN.encode() in server.heard
