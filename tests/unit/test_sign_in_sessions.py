"""Sign-ins that last: rotation, theft, the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from app.core.errors import RateLimited, Unauthenticated
from app.ports.access import AccessAction, AccessFilter
from app.ports.store import Role, UserRow
from app.rest import limits
from app.rest.sessions import RefreshableToken
from tests.unit.test_auth import PASSWORD, Desk, scope_of


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    made = Desk()
    await made.store.start()
    yield made
    await made.store.stop()


async def signed_in(desk: Desk, user: UserRow) -> RefreshableToken:
    token = await desk.auth.sign_in(user.name, PASSWORD, scope_of(), refreshable=True)
    assert isinstance(token, RefreshableToken)
    return token


async def actions(desk: Desk) -> list[AccessAction]:
    return [line.action for line in await desk.store.access_log(AccessFilter())]


async def test_a_refresh_gives_the_next_pair_until_the_session_is_over(desk: Desk) -> None:
    token = await signed_in(desk, await desk.add("asha"))
    for _ in range(limits.SESSION_LIFE_S // limits.TOKEN_LIFE_S - 1):
        desk.clock.advance(limits.TOKEN_LIFE_S)
        with pytest.raises(Unauthenticated, match="expired"):
            await desk.auth.authenticate(token.access_token)
        token = await desk.auth.refresh(token.refresh_token, scope_of())
        assert (await desk.auth.authenticate(token.access_token)).name == "asha"
    assert token.expires_in == limits.TOKEN_LIFE_S
    desk.clock.advance(limits.TOKEN_LIFE_S)
    with pytest.raises(Unauthenticated, match="expired"):
        await desk.auth.refresh(token.refresh_token, scope_of())


async def test_a_copied_refresh_token_ends_the_session_for_both(desk: Desk) -> None:
    first = await signed_in(desk, await desk.add("asha"))
    desk.clock.advance(limits.REFRESH_GRACE_S)
    owner = await desk.auth.refresh(first.refresh_token, scope_of())
    desk.clock.advance(limits.REFRESH_GRACE_S + 1)
    with pytest.raises(Unauthenticated, match="used before"):
        await desk.auth.refresh(first.refresh_token, scope_of(client=("10.0.0.66", 5)))
    for of_owner in (desk.auth.authenticate(owner.access_token), desk.auth.refresh(owner.refresh_token, scope_of())):
        with pytest.raises(Unauthenticated, match="revoked"):
            await of_owner
    (line, *_) = await desk.store.access_log(AccessFilter(action=AccessAction.REFRESH_REUSED))
    assert (line.name, line.address) == ("asha", "10.0.0.66")


async def test_a_thief_who_came_first_is_found_out_by_the_owner(desk: Desk) -> None:
    first = await signed_in(desk, await desk.add("asha"))
    thief = await desk.auth.refresh(first.refresh_token, scope_of(client=("10.0.0.66", 5)))
    thief = await desk.auth.refresh(thief.refresh_token, scope_of(client=("10.0.0.66", 5)))
    with pytest.raises(Unauthenticated, match="used before"):
        await desk.auth.refresh(first.refresh_token, scope_of())
    with pytest.raises(Unauthenticated):
        await desk.auth.authenticate(thief.access_token)


async def test_an_answer_that_was_lost_is_given_again(desk: Desk) -> None:
    first = await signed_in(desk, await desk.add("asha"))
    asked = [desk.auth.refresh(first.refresh_token, scope_of()) for _ in range(4)]
    answers = await asyncio.gather(*asked)
    assert len({answer.refresh_token for answer in answers}) == 1
    desk.clock.advance(limits.REFRESH_GRACE_S)
    again = await desk.auth.refresh(first.refresh_token, scope_of())
    assert again.refresh_token == answers[0].refresh_token
    assert (await desk.auth.refresh(again.refresh_token, scope_of())).refresh_token != again.refresh_token


async def test_the_two_tokens_do_not_pass_for_each_other(desk: Desk) -> None:
    token = await signed_in(desk, await desk.add("asha"))
    with pytest.raises(Unauthenticated):
        await desk.auth.authenticate(token.refresh_token)
    with pytest.raises(Unauthenticated):
        await desk.auth.refresh(token.access_token, scope_of())


async def test_signing_out_ends_this_session_or_all(desk: Desk) -> None:
    user = await desk.add("asha")
    tokens = [await signed_in(desk, user) for _ in range(3)]
    caller = await desk.auth.authenticate(tokens[0].access_token)
    assert await desk.auth.sign_out(caller) == 1
    with pytest.raises(Unauthenticated):
        await desk.auth.refresh(tokens[0].refresh_token, scope_of())
    other = await desk.auth.authenticate(tokens[1].access_token)
    assert await desk.auth.sign_out(other, everywhere=True) == 2
    with pytest.raises(Unauthenticated):
        await desk.auth.authenticate(tokens[2].access_token)
    assert await desk.auth.sign_out(desk.auth.anonymous()) == 0


async def test_shutting_a_user_out_ends_the_refresh_too(desk: Desk) -> None:
    user = await desk.add("asha")
    token = await signed_in(desk, user)
    await desk.store.update_user(replace(user, token_version=1))
    with pytest.raises(Unauthenticated, match="revoked"):
        await desk.auth.refresh(token.refresh_token, scope_of())


async def test_without_the_wish_there_is_no_refresh_token(desk: Desk) -> None:
    await desk.add("asha")
    answer = await desk.auth.sign_in("asha", PASSWORD, scope_of())
    assert not isinstance(answer, RefreshableToken)
    desk.clock.advance(answer.expires_in)
    # The session ends with its only token: the line and the session are what there is to forget.
    assert await desk.store.prune_access(desk.clock.now(), desk.clock.now()) == 2


async def test_the_trail_tells_who_and_from_where_but_not_what_was_typed(desk: Desk) -> None:
    await desk.add("asha")
    for name in ("asha", "my own password"):
        with pytest.raises(Unauthenticated):
            await desk.auth.sign_in(name, "wrong password", scope_of(client=("10.0.0.9", 1)))
    unknown, known = await desk.store.access_log(AccessFilter(action=AccessAction.SIGN_IN_FAILED))
    assert (known.name, known.address) == ("asha", "10.0.0.9")
    assert (unknown.name, unknown.user_id, unknown.detail) == ("", None, "")


async def test_one_name_is_not_guessed_from_a_thousand_addresses(desk: Desk) -> None:
    await desk.add("asha")
    outcomes = []
    for number in range(limits.FAILURES_PER_NAME_ANYWHERE_MAX + 1):
        with pytest.raises((Unauthenticated, RateLimited)) as caught:
            await desk.auth.sign_in("asha", "wrong password", scope_of(client=(f"10.1.{number}.1", 1)))
        outcomes.append(caught.type)
    assert outcomes.count(RateLimited) == 1
    desk.clock.advance(limits.FAILURE_WINDOW_S)
    assert (await desk.auth.sign_in("asha", PASSWORD, scope_of())).access_token


async def test_every_refusal_verifies_one_hash(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that does not exist takes the work of one that does: time tells nothing."""
    await desk.add("asha")
    await desk.store.add_user("shut out", Role.USER, "!")
    await desk.passwords.matches(None, "warm")
    done: list[str] = []
    verify = desk.passwords._verify

    def counted(stored: str, password: str) -> bool:
        done.append(stored)
        return verify(stored, password)

    monkeypatch.setattr(desk.passwords, "_verify", counted)
    for name in ("asha", "nobody", "shut out"):
        done.clear()
        with pytest.raises(Unauthenticated):
            await desk.auth.sign_in(name, "wrong password", scope_of())
        assert len(done) == 1, name
        assert done[0].startswith("$argon2id$")
