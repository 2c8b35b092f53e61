"""What only the memory store promises: it never suspends, so virtual time never waits for it."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from app.ports.store import AuditFilter, Changes, Role
from app.storage.memory_store import MemoryStore
from tests.contract.fakes import NOON, SetClock, atm, entry, leg, line


def at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine without any event loop; it must end at its first step."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    coroutine.close()
    raise AssertionError("it suspended")


def test_no_method_suspends() -> None:
    store = MemoryStore(SetClock())
    at_once(store.start())
    changes = Changes(
        once="EOD:1", entries_added=[entry()], legs=[leg()], atm=[atm()], audit=[line()], leg_tokens_removed=["x"]
    )
    assert at_once(store.commit(changes)) == [1]
    assert len(at_once(store.load()).entries) == 1
    assert at_once(store.was_done("EOD:1")) is True
    assert len(at_once(store.audit(AuditFilter()))) == 1
    assert at_once(store.prune_audit(NOON)) == 0
    user = at_once(store.ensure_user(4))
    added = at_once(store.add_user("asha", Role.ADMIN, "h"))
    at_once(store.update_user(user))
    assert at_once(store.user_by_id(4)) == at_once(store.user_by_name(user.name)) == user
    assert at_once(store.users()) == [user, added]
    at_once(store.ping())
    at_once(store.stop())
