"""Who came in: one contract, three stores."""

from __future__ import annotations

import asyncio
from datetime import date, timedelta

from app.ports.access import AccessAction, AccessFilter, AccessRow, SessionRow, ViewerCount, ViewerRow
from app.ports.store import Role, Store, UserRow
from tests.contract.fakes import NOON

TODAY = date(2026, 2, 3)


def session_of(user: UserRow, handle: str = "first", hours: int = 1) -> SessionRow:
    return SessionRow(handle, user.id, user.token_version, NOON, NOON, NOON + timedelta(hours=hours), "10.0.0.1")


def line_of(user: UserRow | None, action: AccessAction = AccessAction.SIGN_IN, detail: str = "") -> AccessRow:
    known = (user.id, user.name) if user else (None, "")
    return AccessRow(action, known[0], known[1], "10.0.0.1", detail, NOON)


async def test_a_session_is_found_with_its_user_until_it_is_ended(store: Store) -> None:
    user = await store.add_user("asha", Role.USER, "h")
    opened = session_of(user)
    await store.open_session(opened, line_of(user), keep=5)
    assert await store.session("first") == (opened, user)
    assert await store.session("another") is None
    assert await store.session("no\0text") is None
    assert await store.end_sessions(["first", "another"], line_of(user, AccessAction.SIGN_OUT)) == 1
    assert await store.session("first") is None
    actions = [line.action for line in await store.access_log(AccessFilter())]
    assert actions == [AccessAction.SIGN_OUT, AccessAction.SIGN_IN]


async def test_only_so_many_sessions_of_a_user_stay(store: Store) -> None:
    user, other = await store.add_user("asha", Role.USER, "h"), await store.add_user("ravi", Role.USER, "h")
    await store.open_session(session_of(other, "others"), line_of(other), keep=2)
    for number in range(4):
        await store.open_session(session_of(user, f"s{number}"), line_of(user), keep=2)
    found = {handle for handle in ("s0", "s1", "s2", "s3", "others") if await store.session(handle)}
    assert found == {"s2", "s3", "others"}
    await store.open_session(session_of(user, "long", hours=100), line_of(user), keep=2)
    for number in range(4, 6):
        await store.open_session(session_of(user, f"s{number}"), line_of(user), keep=2)
    found = {handle for handle in ("s3", "s4", "s5", "long") if await store.session(handle)}
    assert found == {"s5", "long"}  # a program's token outlives its owner's sign-ins
    assert await store.end_sessions_of(user.id, line_of(user)) == 2
    assert await store.session("others") is not None


async def test_a_generation_is_rotated_once_however_many_ask(store: Store) -> None:
    user = await store.add_user("asha", Role.USER, "h")
    await store.open_session(session_of(user), line_of(user), keep=5)
    later = NOON + timedelta(minutes=10)
    asked = await asyncio.gather(*(store.rotate_session("first", 0, later) for _ in range(5)))
    assert sorted(asked) == [False, False, False, False, True]
    found = await store.session("first")
    assert found is not None
    assert (found[0].generation, found[0].rotated_at) == (1, later)
    assert not await store.rotate_session("gone", 0, later)


async def test_live_are_those_that_hold(store: Store) -> None:
    user, shut_out = await store.add_user("asha", Role.USER, "h"), await store.add_user("ravi", Role.USER, "h")
    await store.open_session(session_of(user, "live"), line_of(user), keep=5)
    await store.open_session(session_of(user, "over", hours=0), line_of(user), keep=5)
    await store.open_session(session_of(shut_out, "revoked"), line_of(shut_out), keep=5)
    await store.update_user(UserRow(shut_out.id, "ravi", Role.USER, "!", NOON, token_version=1))
    assert await store.live_sessions({"live", "over", "revoked", "unknown"}, NOON) == {"live"}
    assert await store.live_sessions((), NOON) == set()


async def test_the_access_log_is_filtered_and_pruned(store: Store) -> None:
    user = await store.add_user("asha", Role.ADMIN, "h")
    for action in (AccessAction.SIGN_IN, AccessAction.ADMIN, AccessAction.SIGN_IN_FAILED):
        await store.note_access(line_of(None if action is AccessAction.SIGN_IN_FAILED else user, action, "what ₹"))
    newest, *older = await store.access_log(AccessFilter())
    assert (newest.action, newest.user_id, newest.name, newest.detail) == (
        AccessAction.SIGN_IN_FAILED,
        None,
        "",
        "what ₹",
    )
    assert newest.timestamp == NOON
    assert await store.access_log(AccessFilter(user_id=user.id)) == older
    assert await store.access_log(AccessFilter(action=AccessAction.ADMIN)) == older[:1]
    assert await store.access_log(AccessFilter(before_id=older[0].id)) == older[1:]
    assert await store.access_log(AccessFilter(limit=1)) == [newest]
    await store.open_session(session_of(user, "over", hours=0), line_of(user), keep=5)
    assert await store.prune_access(NOON, NOON) == 1
    assert await store.session("over") is None
    assert await store.prune_access(NOON + timedelta(days=1), NOON) == 4
    assert await store.access_log(AccessFilter()) == []


async def test_viewers_are_counted_once_a_day_and_segment(store: Store) -> None:
    seen = [
        ViewerRow(TODAY, "NSE_FNO", 1, "10.0.0.1"),
        ViewerRow(TODAY, "NSE_FNO", 1, "10.0.0.2"),
        ViewerRow(TODAY, "NSE_FNO", 2, "10.0.0.1"),
        ViewerRow(TODAY, "MCX_COMM", 2, "10.0.0.1"),
        ViewerRow(TODAY - timedelta(days=1), "NSE_FNO", 3, "10.0.0.3"),
    ]
    await store.note_viewers(seen)
    await store.note_viewers(seen[:2])
    await store.note_viewers(())
    assert await store.viewer_counts(TODAY) == [
        ViewerCount(TODAY, "MCX_COMM", 1, 1),
        ViewerCount(TODAY, "NSE_FNO", 2, 2),
    ]
    assert len(await store.viewer_counts(TODAY - timedelta(days=1))) == 3
