"""Builds the feed: whose socket, with which credentials, and what the pool asks of others."""

from __future__ import annotations

import asyncio
import hashlib
import json
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import structlog

from app.dhan.credentials import Token, TokenSource, TokenVault, TotpMinter, static_token
from app.dhan.live_feed import DhanFeed
from app.dhan.option_chain import OptionChainRest
from app.market.events import Notify
from app.market.pool import PoolHooks
from app.market.pool_policy import PoolPolicy
from app.ports.clock import Clock
from app.ports.feed import Feed, FeedConnection, TickBuffers
from app.settings import Settings

SIMULATOR_CLIENT, SIMULATOR_TOKEN = "simulated", "simulated"
HTTP_TIMEOUT_S = 30.0
TOKEN_FILE, COOLDOWN_FILE = "broker-token", "feed-cooldown.json"


@dataclass(frozen=True, slots=True)
class Upstream:
    """The feed's adapter and its helpers; ``feed`` is None where no socket is ever opened."""

    http: httpx.AsyncClient
    tokens: TokenSource
    feed: LateFeed | None
    chains: OptionChainRest


class SimulatedMinter:
    """The simulator takes any token that it has not called expired: a new one each time."""

    wait_s = 0.0

    def __init__(self) -> None:
        self._minted = 0

    async def mint(self) -> Token:
        self._minted += 1
        return Token(f"{SIMULATOR_TOKEN}-{self._minted}")


class LateFeed:
    """A feed whose address may be known only after the simulator's child process has started."""

    def __init__(self, make: Callable[[str], Feed]) -> None:
        self._make = make
        self._feed: Feed | None = None
        self._is_known = asyncio.Event()

    def point_at(self, url: str) -> None:
        self._feed = self._make(url)
        self._is_known.set()

    async def connect(self, index: int) -> FeedConnection:
        await self._is_known.wait()
        assert self._feed is not None
        return await self._feed.connect(index)


def build_upstream(
    settings: Settings,
    buffers: TickBuffers,
    clock: Clock,
    secret_key: str,
    on_new_token: Callable[[], None],
    *,
    tls: ssl.SSLContext | None = None,
) -> Upstream:
    """No socket is opened here. ``on_new_token`` is called whenever a credential has replaced another.

    ``tls`` None trusts the usual authorities.
    """
    http = httpx.AsyncClient(timeout=HTTP_TIMEOUT_S, verify=tls or True)
    tokens = _token_source(settings, clock, http, secret_key, on_new_token)
    chains = OptionChainRest(http, tokens, settings.dhan_api_url if settings.feed_source == "dhan" else None)
    if settings.feed_source == "off":
        return Upstream(http, tokens, None, chains)

    def make(url: str) -> Feed:
        made = DhanFeed(buffers, url, tokens, clock, native=settings.bt_native)
        if made.decoder_note is not None:
            structlog.get_logger("feed").info(made.decoder_note)
        return made

    feed = LateFeed(make)
    if settings.feed_source == "dhan":
        feed.point_at(settings.dhan_feed_url)
    return Upstream(http, tokens, feed, chains)


def build_policy(settings: Settings) -> PoolPolicy:
    """The named policy settings of the contract's rule 13."""
    return PoolPolicy(
        watchdog_s=settings.bt_watchdog_s,
        late_s=settings.bt_late_s,
        hand_over_s=settings.bt_hand_over_s,
        ask_again_s=settings.bt_ask_again_s,
        ask_again_cap_s=settings.bt_ask_again_max_s,
        backoff_base_s=settings.bt_backoff_base_s,
        backoff_cap_s=settings.bt_backoff_cap_s,
        healthy_s=settings.bt_healthy_after_s,
        fewer_sockets_s=settings.bt_code_805_delay_s,
        slowly_s=settings.bt_code_806_delay_s,
        rate_limit_s=settings.bt_http_429_delay_s,
        rate_limit_cap_s=settings.bt_http_429_delay_max_s,
    )


def build_hooks(settings: Settings, renew: Callable[[], Awaitable[bool]], notify: Notify) -> PoolHooks:
    path = settings.bt_data_dir / COOLDOWN_FILE
    return PoolHooks(
        renew_token=renew,
        remember_cooldown=lambda until_ms: _remember_cooldown(path, until_ms),
        cooldown_until_ms=_remembered_cooldown(path) if settings.feed_source == "dhan" else 0,
        notify=notify,
    )


def _token_source(
    settings: Settings, clock: Clock, http: httpx.AsyncClient, secret_key: str, on_new_token: Callable[[], None]
) -> TokenSource:
    if settings.feed_source != "dhan" or settings.dhan_client_id is None:
        return TokenSource(
            SIMULATOR_CLIENT,
            clock,
            token=static_token(SIMULATOR_TOKEN),
            minter=SimulatedMinter(),
            on_new=lambda token: on_new_token(),
        )
    minter = None
    if settings.dhan_pin is not None and settings.dhan_totp_secret is not None:
        minter = TotpMinter(
            http,
            settings.dhan_auth_url,
            settings.dhan_client_id,
            settings.dhan_pin.get_secret_value(),
            settings.dhan_totp_secret.get_secret_value(),
            clock,
        )
    vault = TokenVault(settings.bt_data_dir / TOKEN_FILE, hashlib.sha256(f"vault:{secret_key}".encode()).digest())
    token: Token | None = None
    if settings.dhan_access_token is not None:
        token = static_token(settings.dhan_access_token.get_secret_value())
    elif minter is not None:
        token = vault.load()

    def keep_and_tell(new: Token) -> None:
        with _kept_if_possible("broker token"):
            vault.save(new)
        on_new_token()

    return TokenSource(settings.dhan_client_id, clock, token=token, minter=minter, on_new=keep_and_tell)


@contextmanager
def _kept_if_possible(what: str) -> Iterator[None]:
    """What is kept for a restart may be lost to a full disk; the feed goes on."""
    try:
        yield
    except OSError as error:
        structlog.get_logger("feed").warning("not kept", what=what, reason=error.strerror)


def _remember_cooldown(path: Path, until_ms: int) -> None:
    part = path.with_suffix(".part")
    with _kept_if_possible("rate limit"):
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps({"until_ms": until_ms}), encoding="ascii")
        part.replace(path)


def _remembered_cooldown(path: Path) -> int:
    try:
        return int(json.loads(path.read_text("ascii"))["until_ms"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0
