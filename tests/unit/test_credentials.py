"""Where the token comes from: a real HTTP server imitates Dhan's, a stepped clock imitates the day."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
import pyotp
import pytest
import structlog

from app.dhan import credentials
from app.dhan.credentials import (
    MintRefused,
    Token,
    TokenSource,
    TokenVault,
    TotpMinter,
    next_renewal,
    static_token,
)
from app.ports.feed import FeedClosed, Retry
from tests.fixtures.http_server import Answer, Request, serving

IST = ZoneInfo("Asia/Kolkata")
START = datetime(2026, 9, 14, 8, 0, tzinfo=IST)
PIN = "482913"
SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


class SteppedClock:
    def __init__(self) -> None:
        self.at = START

    def now(self) -> datetime:
        return self.at

    def now_ms(self) -> int:
        return int(self.at.timestamp() * 1000)

    def monotonic(self) -> float:
        return (self.at - START).total_seconds()

    def step(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@dataclass
class Dhan:
    """Answers like auth.dhan.co: refusals are HTTP 200 too."""

    clock: SteppedClock
    minted: int = 0
    refuse: dict[str, object] | None = None
    raw: Answer | None = None
    requests: list[Request] = field(default_factory=list)
    last_mint: datetime | None = None

    def answer(self, request: Request) -> Answer:
        self.requests.append(request)
        if self.raw is not None:
            return self.raw
        if self.refuse is not None:
            return Answer(body=json.dumps(self.refuse).encode())
        right = pyotp.TOTP(SECRET).at(self.clock.now())
        if (request.query["pin"], request.query["totp"]) != (PIN, right):
            return self.say("Invalid TOTP")
        if self.last_mint is not None and self.clock.now() - self.last_mint < timedelta(minutes=2):
            return self.say("Token can be generated once every 2 minutes")
        self.last_mint = self.clock.now()
        self.minted += 1
        expiry = (self.clock.now() + timedelta(hours=24)).astimezone(IST).replace(tzinfo=None)
        body = {"accessToken": f"minted-{self.minted}", "expiryTime": expiry.isoformat()}
        return Answer(body=json.dumps(body).encode())

    def say(self, message: str) -> Answer:
        return Answer(body=json.dumps({"status": "error", "message": message}).encode())


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def dhan(clock: SteppedClock) -> Dhan:
    return Dhan(clock)


@pytest.fixture
async def minter(dhan: Dhan, clock: SteppedClock) -> AsyncIterator[TotpMinter]:
    async with serving(dhan.answer) as url, httpx.AsyncClient() as client:
        yield TotpMinter(client, url, "1000000001", PIN, SECRET, clock)


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch, clock: SteppedClock) -> None:
    """Sleeping moves the stepped clock instead; a yield remains."""
    really = asyncio.sleep

    async def step(seconds: float) -> None:
        clock.step(seconds)
        await really(0)

    monkeypatch.setattr(credentials.asyncio, "sleep", step)


async def test_a_token_is_minted_with_pin_and_totp(minter: TotpMinter, dhan: Dhan) -> None:
    token = await minter.mint()
    (request,) = dhan.requests
    assert (request.method, request.path) == ("POST", "/app/generateAccessToken")
    assert request.query["dhanClientId"] == "1000000001"
    assert token == Token("minted-1", START + timedelta(hours=24))


async def test_two_attempts_are_130_s_apart(minter: TotpMinter, dhan: Dhan, clock: SteppedClock) -> None:
    await minter.mint()
    clock.step(129)
    with pytest.raises(MintRefused) as early:
        await minter.mint()
    assert (early.value.retry_in_s, len(dhan.requests)) == (1.0, 1)
    clock.step(1)
    assert (await minter.mint()).value == "minted-2"


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (Answer(body=b'{"status": "error", "message": "Invalid TOTP"}'), "HTTP 200: Invalid TOTP"),
        (Answer(500, b'{"errorCode": "DH-905", "errorMessage": "not allowed"}'), "HTTP 500: not allowed"),
        (Answer(200, b"<html>"), "HTTP 200 without JSON"),
        (Answer(200, b"[]"), "HTTP 200 with no object"),
        (Answer(200, b"{}"), "HTTP 200: nothing"),
        (Answer(401, b'{"accessToken": "x"}'), "HTTP 401"),
        (Answer(200, b'{"accessToken": ""}'), "HTTP 200"),
        (Answer(200, b"{", declared_length=99), "RemoteProtocolError"),
        (Answer(200, f'{{"status": "error", "message": "bad pin {PIN}"}}'.encode()), r"bad pin \*\*\*"),
    ],
)
async def test_a_refusal_says_why_and_when(minter: TotpMinter, dhan: Dhan, raw: Answer, why: str) -> None:
    dhan.raw = raw
    with pytest.raises(MintRefused, match=why) as refused:
        await minter.mint()
    assert refused.value.retry_in_s == 130.0


async def test_nobody_there(clock: SteppedClock) -> None:
    async with httpx.AsyncClient() as client:
        minter = TotpMinter(client, "http://127.0.0.1:1", "1", PIN, SECRET, clock)
        with pytest.raises(MintRefused, match="ConnectError"):
            await minter.mint()
        for bad in ("not base32!", "JBSWY3DP"):
            with pytest.raises(ValueError, match="DHAN_TOTP_SECRET"):
                TotpMinter(client, "http://127.0.0.1:1", "1", PIN, bad, clock)


async def test_an_unreadable_expiry_means_24_hours(minter: TotpMinter, dhan: Dhan) -> None:
    dhan.raw = Answer(body=b'{"accessToken": "x", "expiryTime": "tomorrow"}')
    assert (await minter.mint()).expires_at == START + timedelta(hours=24)


async def test_secrets_are_nowhere(minter: TotpMinter, dhan: Dhan, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with structlog.testing.capture_logs() as logs:
        source = TokenSource("1", SteppedClock(), minter=minter)
        await source.token()
        source.invalidate()
        dhan.refuse = {"status": "error", "message": f"totp {pyotp.TOTP(SECRET).at(START)} or {SECRET} is wrong"}
        with pytest.raises(FeedClosed) as closed:
            await source.token()
    told = [minter, source, closed.value, static_token("abc"), logs, caplog.text]
    everything = "\n".join(map(repr, told))
    for secret in (PIN, SECRET, pyotp.TOTP(SECRET).at(START), "minted-1", "'abc'"):
        assert secret not in everything


# --- the owner of the token -------------------------------------------------------------------------------------------


async def test_a_static_token_is_used_until_refused(clock: SteppedClock) -> None:
    source = TokenSource("1", clock, token=Token("pasted"))
    assert await source.token() == "pasted"
    source.refused("another")
    assert await source.token() == "pasted"
    source.refused("pasted")
    with pytest.raises(FeedClosed) as closed:
        await source.token()
    assert closed.value.retry is Retry.NEW_TOKEN
    assert source.is_waiting
    assert not await source.renew()
    source.replace(Token("second"))
    assert await source.token() == "second"


async def test_an_expired_token_is_not_offered(clock: SteppedClock) -> None:
    source = TokenSource("1", clock, token=Token("old", START + timedelta(seconds=5)))
    assert await source.token() == "old"
    clock.step(5)
    with pytest.raises(FeedClosed, match="expired"):
        await source.token()


async def test_no_token_and_no_way_to_get_one(clock: SteppedClock) -> None:
    with pytest.raises(FeedClosed, match="missing"):
        await TokenSource("1", clock).token()


async def test_five_connections_mint_once(minter: TotpMinter, dhan: Dhan, clock: SteppedClock) -> None:
    told: list[Token] = []
    source = TokenSource("1", clock, minter=minter, on_new=told.append)
    tokens = await asyncio.gather(*(source.token() for _ in range(5)))
    assert (set(tokens), dhan.minted, [token.value for token in told]) == ({"minted-1"}, 1, ["minted-1"])


async def test_a_first_mint_that_fails_says_when_to_come_back(
    minter: TotpMinter, dhan: Dhan, clock: SteppedClock
) -> None:
    dhan.refuse = {"status": "error", "message": "Invalid TOTP"}
    source = TokenSource("1", clock, minter=minter)
    with pytest.raises(FeedClosed, match="Invalid TOTP") as closed:
        await source.token()
    assert (closed.value.retry, closed.value.min_delay_s) == (Retry.BACKOFF, 130.0)


async def test_refused_tokens_are_minted_anew_once_for_all(
    minter: TotpMinter, dhan: Dhan, clock: SteppedClock, no_waiting: None
) -> None:
    source = TokenSource("1", clock, minter=minter)
    await source.token()
    source.invalidate()
    assert all(await asyncio.gather(*(source.renew() for _ in range(5))))
    assert (await source.token(), dhan.minted) == ("minted-2", 2)


async def test_renewal_gives_up_after_a_few_patient_attempts(
    minter: TotpMinter, dhan: Dhan, clock: SteppedClock, no_waiting: None
) -> None:
    source = TokenSource("1", clock, token=Token("old"), minter=minter)
    assert await source.renew()
    assert (await source.token(), dhan.requests) == ("old", [])
    dhan.refuse = {"status": "error", "message": "no"}
    source.invalidate()
    assert not await source.renew()
    assert (len(dhan.requests), clock.monotonic()) == (3, 260.0)


async def mints_of(source: TokenSource, clock: SteppedClock, dhan: Dhan, count: int) -> list[str]:
    """Run the renewal until so many requests were made; when they were."""
    moments: list[str] = []
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        task = group.create_task(source.run())
        while len(moments) < count:
            await asyncio.sleep(0)
            moments += [clock.now().strftime("%d %H:%M")] * (len(dhan.requests) - len(moments))
        task.cancel()
    return moments


async def test_the_token_is_renewed_before_its_end_and_outside_the_session(
    minter: TotpMinter, dhan: Dhan, clock: SteppedClock, no_waiting: None
) -> None:
    source = TokenSource("1", clock, token=Token("old", START + timedelta(hours=4)), minter=minter)
    assert await mints_of(source, clock, dhan, 3) == ["14 08:30", "15 08:00", "16 07:30"]


async def test_a_renewal_that_failed_is_tried_again_until_it_works(
    minter: TotpMinter, dhan: Dhan, clock: SteppedClock, no_waiting: None
) -> None:
    source = TokenSource("1", clock, token=Token("old"), minter=minter)
    dhan.raw = Answer(503)
    source.invalidate()
    assert not await source.renew()
    dhan.raw = None
    await mints_of(source, clock, dhan, 5)
    assert await source.token() == "minted-1"


async def test_a_minted_token_that_is_refused_at_once_is_not_minted_over_and_over(
    minter: TotpMinter, dhan: Dhan, clock: SteppedClock, no_waiting: None
) -> None:
    source = TokenSource("1", clock, token=Token("old"), minter=minter)
    source.invalidate()
    assert await source.renew()
    source.invalidate()
    assert (await mints_of(source, clock, dhan, 2))[1] == "15 07:30"


async def test_without_a_minter_there_is_nothing_to_renew(clock: SteppedClock) -> None:
    await TokenSource("1", clock, token=Token("pasted")).run()


@pytest.mark.parametrize(
    ("expires", "now", "renews"),
    [
        ("15 08:00", "14 08:00", "15 07:30"),
        ("15 10:00", "14 10:00", "15 08:30"),
        ("15 23:00", "14 23:00", "15 08:30"),
        ("15 00:05", "14 00:05", "14 08:30"),
        ("15 00:25", "14 00:25", "14 08:30"),
        ("15 00:26", "14 00:26", "14 23:56"),
        ("14 12:00", "14 09:30", "14 11:30"),
    ],
)
def test_when_to_renew(expires: str, now: str, renews: str) -> None:
    def moment(text: str) -> datetime:
        return datetime.strptime(f"2026-09-{text}", "%Y-%m-%d %H:%M").replace(tzinfo=IST)

    assert next_renewal(moment(expires).astimezone(UTC), moment(now)) == moment(renews)


def test_the_end_of_a_pasted_token_is_read_from_it() -> None:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": 1_789_359_597}).encode()).decode().rstrip("=")
    assert static_token(f"e30.{claims}.sig").expires_at == datetime.fromtimestamp(1_789_359_597, UTC)


@pytest.mark.parametrize("text", ["", "opaque", "a.b.c", "a.e30.c", "a.W10.c", "a." + "eyJleHAiOjFlOTk5fQ" + ".c"])
def test_what_is_no_jwt_simply_has_no_known_end(text: str) -> None:
    assert static_token(text) == Token(text)


def test_the_vault_keeps_a_token_for_its_key_only(tmp_path: Path) -> None:
    path = tmp_path / "token"
    vault = TokenVault(path, bytes(range(32)))
    assert vault.load() is None
    for token in (Token("secret-value", START), Token("no-end")):
        vault.save(token)
        assert vault.load() == token
    assert b"no-end" not in path.read_bytes()
    assert path.stat().st_mode & 0o077 == 0
    assert TokenVault(path, bytes(32)).load() is None
    path.write_bytes(b"garbage")
    assert vault.load() is None
