"""Users in the three stores: made on first use, added, changed, refused."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from app.core.errors import AlreadyExists, InvalidRequest
from app.ports.store import (
    Role,
    Store,
)
from tests.contract.fakes import SetClock


async def test_a_user_is_made_on_first_use(store: Store, clock: SetClock) -> None:
    made = await store.ensure_user(7)
    assert (made.id, made.role, made.password_hash, made.created_at, made.token_version) == (
        7,
        Role.USER,
        "",
        clock.at,
        0,
    )
    clock.advance(hours=1)
    assert await store.ensure_user(7) == made
    assert await store.user_by_id(7) == made
    assert await store.user_by_name(made.name) == made
    assert await store.users() == [made]


async def test_a_user_is_made_once_however_many_ask(store: Store) -> None:
    made = await asyncio.gather(*(store.ensure_user(3) for _ in range(8)))
    assert len(set(made)) == 1
    assert await store.users() == [made[0]]


@pytest.mark.parametrize("user_id", [0, -1, 2**53, 2**63, 10**30])
async def test_an_impossible_user_id_is_a_bad_request(store: Store, user_id: int) -> None:
    with pytest.raises(InvalidRequest):
        await store.ensure_user(user_id)
    assert await store.users() == []


async def test_accounts_are_added_found_and_changed(store: Store) -> None:
    admin = await store.add_user("asha", Role.ADMIN, "$argon2id$1")
    user = await store.add_user("ravi ₹", Role.USER, "$argon2id$2")
    assert 0 < admin.id < user.id
    assert await store.user_by_name("asha") == admin
    assert await store.user_by_name("ASHA") is None
    assert await store.user_by_id(user.id) == user
    changed = replace(user, role=Role.ADMIN, password_hash="$argon2id$3", token_version=4)
    await store.update_user(changed)
    await store.update_user(replace(user, id=10**6))
    assert await store.users() == [admin, changed]


async def test_a_taken_name_is_refused(store: Store) -> None:
    first = await store.add_user("asha", Role.ADMIN, "h")
    with pytest.raises(AlreadyExists):
        await store.add_user("asha", Role.USER, "other")
    assert await store.users() == [first]


@pytest.mark.parametrize("name", ["", "  ", "#7", "a\0b", "a\nb", "\ud800", "x" * 129])
async def test_a_name_that_cannot_be_is_a_bad_request(store: Store, name: str) -> None:
    with pytest.raises(InvalidRequest):
        await store.add_user(name, Role.USER, "h")
    assert await store.users() == []


async def test_users_made_on_first_use_and_accounts_never_meet(store: Store) -> None:
    await store.add_user("asha", Role.ADMIN, "h")
    for user_id in (2, 3, 50, 2**52):
        await store.ensure_user(user_id)
    later = await store.add_user("ravi", Role.USER, "h")
    assert later.id > 2**52
    assert await store.ensure_user(later.id) == later
    ids = [user.id for user in await store.users()]
    assert ids == sorted(set(ids))
    assert len(ids) == 6
