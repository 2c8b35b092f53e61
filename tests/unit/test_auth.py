"""Who may come in: what the connection shows, tokens, sign-in, attempt limits, the first admin."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import jwt
import pytest

from app.core.errors import AlreadyExists, Forbidden, InvalidRequest, RateLimited, Unauthenticated
from app.ports.store import Role, UserRow
from app.rest import limits
from app.rest.auth import Authenticator, AuthMode, Principal, ensure_admin
from app.rest.origin import address_of, is_local, is_loopback_end
from app.rest.passwords import NO_LOGIN, one_time_password
from app.rest.throttle import AttemptLimiter
from app.storage.memory_store import MemoryStore
from tests.api.support import HandClock, cheap_passwords

PASSWORD = "correct horse battery"


def scope_of(
    *,
    client: tuple[str, int] | None = ("127.0.0.1", 50_000),
    server: tuple[str, int] | None = ("127.0.0.1", 8000),
    host: str | None = "127.0.0.1:8000",
    scheme: str = "http",
    **headers: str,
) -> dict[str, Any]:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    if host is not None:
        pairs.append((b"host", host.encode()))
    return {"type": "http", "scheme": scheme, "client": client, "server": server, "headers": pairs}


LOCAL = {
    "plain": scope_of(),
    "by name": scope_of(host="localhost:8000"),
    "IPv6": scope_of(client=("::1", 5), server=("::1", 8000), host="[::1]:8000"),
    "mapped IPv4": scope_of(client=("::ffff:127.0.0.1", 5), server=("::ffff:127.0.0.1", 8000)),
    "our own page": scope_of(origin="http://127.0.0.1:8000", sec_fetch_site="same-origin"),
    "our own page's socket": scope_of(scheme="ws", origin="http://127.0.0.1:8000"),
    "default port": scope_of(host="localhost", origin="http://localhost"),
    "all of 127/8": scope_of(client=("127.8.9.1", 5)),
}
FOREIGN = {
    "client elsewhere": scope_of(client=("192.168.1.7", 5)),
    "served on another address": scope_of(server=("192.168.1.2", 8000)),
    "no client (a proxy's socket)": scope_of(client=None),
    "no server": scope_of(server=None),
    "forwarded": scope_of(forwarded="for=1.2.3.4"),
    "x-forwarded-for": scope_of(x_forwarded_for="1.2.3.4"),
    "x-forwarded-proto": scope_of(x_forwarded_proto="https"),
    "x-real-ip": scope_of(x_real_ip="1.2.3.4"),
    "via": scope_of(via="1.1 proxy"),
    "cloud edge": scope_of(cf_connecting_ip="1.2.3.4"),
    "rebound name": scope_of(host="evil.example:8000"),
    "rebound name with its own origin": scope_of(host="evil.example:8000", origin="http://evil.example:8000"),
    "name that only looks local": scope_of(host="localhost.evil.example:8000"),
    "user info in the host": scope_of(host="localhost@evil.example:8000"),
    "no host": scope_of(host=None),
    "foreign page": scope_of(origin="https://evil.example"),
    "another port of this machine": scope_of(origin="http://127.0.0.1:3000"),
    "another name of this machine": scope_of(origin="http://localhost:8000"),
    "opaque origin": scope_of(origin="null"),
    "garbage origin": scope_of(origin="http://[::1"),
    "cross-site without an origin": scope_of(sec_fetch_site="cross-site"),
}


@pytest.mark.parametrize("name", LOCAL)
def test_plain_loopback_is_local(name: str) -> None:
    assert is_local(LOCAL[name])


@pytest.mark.parametrize("name", FOREIGN)
def test_anything_else_is_not(name: str) -> None:
    assert not is_local(FOREIGN[name])


def test_two_hosts_are_not_local() -> None:
    scope = scope_of()
    scope["headers"].append((b"host", b"127.0.0.1:8000"))
    assert not is_local(scope)


def test_own_hosts_are_ours() -> None:
    scope = scope_of(host="desk.example:8000", origin="http://desk.example:8000")
    assert not is_local(scope)
    assert is_local(scope, {"desk.example"})


@pytest.mark.parametrize("end", [None, (), ("",), ("nonsense", 1), "127.0.0.1", (None, 3)])
def test_odd_ends_are_not_loopback(end: object) -> None:
    assert not is_loopback_end(end)


def test_attempts_count_by_the_household() -> None:
    first = address_of({"client": ("2001:db8:1:2::1", 1)})
    assert first == address_of({"client": ("2001:db8:1:2:ffff::9", 1)})
    assert first != address_of({"client": ("2001:db8:1:3::1", 1)})
    assert address_of({"client": ("10.0.0.1", 1)}) == "10.0.0.1"
    assert address_of({"client": None}) == "unknown"


class Desk:
    """One authenticator over a real memory store."""

    def __init__(self, mode: AuthMode = "auto") -> None:
        self.clock = HandClock()
        self.store = MemoryStore(self.clock)
        self.passwords = cheap_passwords()
        self.auth = Authenticator(self.store, self.clock, "a secret", mode, passwords=self.passwords)

    async def add(self, name: str, role: Role = Role.USER) -> UserRow:
        return await self.store.add_user(name, role, await self.passwords.hash(PASSWORD))


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    made = Desk()
    await made.store.start()
    yield made
    await made.store.stop()


@pytest.mark.parametrize(
    ("mode", "scope", "needed"),
    [
        ("auto", LOCAL["plain"], False),
        ("auto", FOREIGN["client elsewhere"], True),
        ("auto", FOREIGN["foreign page"], True),
        ("required", LOCAL["plain"], True),
        ("off", LOCAL["plain"], False),
        ("off", FOREIGN["x-forwarded-for"], False),
        ("off", FOREIGN["foreign page"], True),
        ("off", FOREIGN["rebound name"], True),
    ],
)
def test_when_a_token_is_needed(mode: AuthMode, scope: dict[str, Any], needed: bool) -> None:
    assert Desk(mode).auth.requires_token(scope) is needed


async def test_without_a_token_on_loopback_every_user_is_ones_own(desk: Desk) -> None:
    caller = await desk.auth.principal_of(scope_of())
    assert caller.is_admin
    assert not caller.has_token
    assert caller.may_act_for(1)
    assert caller.may_act_for(99)


async def test_a_token_is_used_even_where_none_is_needed(desk: Desk) -> None:
    user = await desk.add("asha")
    token = (await desk.auth.sessions.open(user, "here")).access_token
    caller = await desk.auth.principal_of(scope_of(authorization=f"Bearer {token}"))
    assert (caller.user_id, caller.role, caller.name) == (user.id, Role.USER, "asha")
    assert caller.expires_ms == desk.clock.now_ms() // 1000 * 1000 + limits.SESSION_LIFE_S * 1000


async def test_a_bad_token_is_refused_even_where_none_is_needed(desk: Desk) -> None:
    with pytest.raises(Unauthenticated):
        await desk.auth.principal_of(scope_of(authorization="Bearer nonsense"))


@pytest.mark.parametrize("header", ["Basic YTpi", "Bearer", "Bearer ", "token"])
async def test_only_bearer_is_understood(desk: Desk, header: str) -> None:
    with pytest.raises(Unauthenticated):
        await desk.auth.principal_of(scope_of(authorization=header))


async def test_no_token_from_elsewhere_is_refused(desk: Desk) -> None:
    with pytest.raises(Unauthenticated):
        await desk.auth.principal_of(FOREIGN["client elsewhere"])


async def test_a_token_ends_with_its_life(desk: Desk) -> None:
    token = (await desk.auth.sessions.open(await desk.add("asha"), "here")).access_token
    desk.clock.advance(limits.SESSION_LIFE_S - 1)
    assert (await desk.auth.authenticate(token)).name == "asha"
    desk.clock.advance(1)
    with pytest.raises(Unauthenticated, match="expired"):
        await desk.auth.authenticate(token)


async def test_raising_the_version_revokes(desk: Desk) -> None:
    user = await desk.add("asha")
    token = (await desk.auth.sessions.open(user, "here")).access_token
    await desk.store.update_user(replace(user, token_version=user.token_version + 1))
    with pytest.raises(Unauthenticated, match="revoked"):
        await desk.auth.authenticate(token)


async def test_a_role_change_counts_at_once(desk: Desk) -> None:
    user = await desk.add("asha", Role.ADMIN)
    token = (await desk.auth.sessions.open(user, "here")).access_token
    await desk.store.update_user(replace(user, role=Role.USER))
    assert not (await desk.auth.authenticate(token)).is_admin


async def test_another_key_another_algorithm_and_no_signature_are_refused(desk: Desk) -> None:
    user = await desk.add("asha")
    now_s = desk.clock.now_ms() // 1000
    claims = {
        "iss": "broking-terminal",
        "sub": str(user.id),
        "ver": 0,
        "sid": "x",
        "gen": 0,
        "iat": now_s,
        "exp": now_s + 60,
    }
    key = bytes(32)
    forged = [
        jwt.encode(claims, key, "HS256"),
        jwt.encode(claims, None, "none"),
        jwt.encode(claims, bytes(64), "HS512"),
        (await Authenticator(desk.store, desk.clock, "another secret").sessions.open(user, "here")).access_token,
        (await desk.auth.sessions.open(user, "here")).access_token[:-2] + "xx",
        "x" * (limits.BEARER_CHARS_MAX + 1),
    ]
    for token in forged:
        with pytest.raises(Unauthenticated):
            await desk.auth.authenticate(token)


async def test_a_token_from_the_future_is_refused(desk: Desk) -> None:
    user = await desk.add("asha")
    later = HandClock(desk.clock.now().replace(day=20))
    token = (await Authenticator(desk.store, later, "a secret").sessions.open(user, "here")).access_token
    with pytest.raises(Unauthenticated, match="later day"):
        await desk.auth.authenticate(token)


def test_own_objects_only() -> None:
    user = Principal(7, Role.USER, "asha", 1)
    user.require_act_for(7)
    with pytest.raises(Forbidden):
        user.require_act_for(8)
    with pytest.raises(Forbidden):
        user.require_admin()
    Principal(1, Role.ADMIN, "root", 1).require_act_for(8)


async def test_sign_in(desk: Desk) -> None:
    user = await desk.add("asha")
    answer = await desk.auth.sign_in("asha", PASSWORD, scope_of())
    assert (answer.token_type, answer.expires_in, answer.user_id) == ("bearer", limits.SESSION_LIFE_S, user.id)
    assert (await desk.auth.authenticate(answer.access_token)).user_id == user.id


@pytest.mark.parametrize(("name", "password"), [("asha", "wrong password"), ("nobody", PASSWORD), ("asha", "")])
async def test_a_wrong_sign_in_does_not_say_which(desk: Desk, name: str, password: str) -> None:
    await desk.add("asha")
    with pytest.raises(Unauthenticated, match=r"^unknown name or wrong password$"):
        await desk.auth.sign_in(name, password, scope_of())


@pytest.mark.parametrize("stored", ["", NO_LOGIN, "$argon2id$nonsense"])
async def test_accounts_without_a_password_cannot_sign_in(desk: Desk, stored: str) -> None:
    await desk.store.add_user("ghost", Role.USER, stored)
    for password in ("", "!", PASSWORD):
        with pytest.raises(Unauthenticated):
            await desk.auth.sign_in("ghost", password, scope_of())


async def test_guessing_is_slowed_per_name_and_address(desk: Desk) -> None:
    await desk.add("asha")
    await desk.add("ravi")
    for _ in range(limits.FAILURES_PER_NAME_MAX):
        with pytest.raises(Unauthenticated):
            await desk.auth.sign_in("asha", "wrong password", scope_of())
    with pytest.raises(RateLimited) as caught:
        await desk.auth.sign_in("ASHA", PASSWORD, scope_of())
    assert 0 < caught.value.extra["retry_after_s"] <= limits.FAILURE_WINDOW_S + 1
    assert (await desk.auth.sign_in("ravi", PASSWORD, scope_of())).access_token
    assert (await desk.auth.sign_in("asha", PASSWORD, scope_of(client=("10.0.0.9", 1)))).access_token
    desk.clock.advance(limits.FAILURE_WINDOW_S)
    assert (await desk.auth.sign_in("asha", PASSWORD, scope_of())).access_token


async def test_spraying_names_from_one_address_is_slowed(desk: Desk) -> None:
    for number in range(limits.FAILURES_PER_ADDRESS_MAX):
        with pytest.raises(Unauthenticated):
            await desk.auth.sign_in(f"name{number}", PASSWORD, scope_of())
    with pytest.raises(RateLimited):
        await desk.auth.sign_in("one more", PASSWORD, scope_of())


async def test_many_guesses_at_once_do_not_slip_through(desk: Desk) -> None:
    await desk.add("asha")
    tries = [desk.auth.sign_in("asha", f"wrong {n}", scope_of()) for n in range(12)]
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(outcome, Unauthenticated) for outcome in outcomes) == limits.FAILURES_PER_NAME_MAX
    assert sum(isinstance(outcome, RateLimited) for outcome in outcomes) == 12 - limits.FAILURES_PER_NAME_MAX


async def test_successes_do_not_use_up_the_attempts(desk: Desk) -> None:
    await desk.add("asha")
    for _ in range(limits.FAILURES_PER_ADDRESS_MAX + 1):
        assert (await desk.auth.sign_in("asha", PASSWORD, scope_of())).access_token


async def test_hashes_in_line_are_bounded() -> None:
    passwords = cheap_passwords()
    work = [passwords.hash(PASSWORD) for _ in range(limits.HASHES_WAITING_MAX + 3)]
    outcomes = await asyncio.gather(*work, return_exceptions=True)
    assert sum(isinstance(outcome, RateLimited) for outcome in outcomes) == 3


async def test_passwords_have_a_length() -> None:
    for password in ("short", "x" * (limits.PASSWORD_CHARS_MAX + 1)):
        with pytest.raises(InvalidRequest):
            await cheap_passwords().hash(password)


def test_limiter_forgets_the_least_recent_key() -> None:
    clock = HandClock()
    limiter = AttemptLimiter(clock, limit=1, window_s=10, keys_max=2)
    for key in ("a", "b", "c"):
        limiter.count(key)
    assert [limiter.wait_s(key) for key in ("a", "b", "c")] == [0, 10, 10]
    clock.advance(4)
    assert limiter.wait_s("c") == 6
    clock.advance(6)
    assert limiter.wait_s("c") == 0


async def test_the_first_admin_is_made_once(desk: Desk) -> None:
    password = await ensure_admin(desk.store, desk.passwords)
    assert password is not None
    assert await ensure_admin(desk.store, desk.passwords) is None
    token = (await desk.auth.sign_in("admin", password, scope_of())).access_token
    assert (await desk.auth.authenticate(token)).is_admin


async def test_a_plain_user_named_admin_is_not_promoted(desk: Desk) -> None:
    await desk.add("admin")
    with pytest.raises(AlreadyExists, match="bt user add"):
        await ensure_admin(desk.store, desk.passwords)


def test_one_time_passwords_differ() -> None:
    made = {one_time_password() for _ in range(50)}
    assert len(made) == 50
    assert all(len(password) == 27 for password in made)
