"""``bt user``: accounts, straight in the database."""

from __future__ import annotations

from dataclasses import replace

from rich.table import Table

from app.cli.failure import CommandFailed
from app.core.errors import AlreadyExists
from app.ports.access import AccessAction, AccessRow
from app.ports.clock import Clock
from app.ports.store import Role, Store, UserRow
from app.rest.passwords import NO_LOGIN, Passwords, one_time_password
from app.rest.sessions import Sessions

AT_THE_MACHINE = "bt"  # in place of an address: who runs a command has the machine


async def add(
    store: Store, passwords: Passwords, clock: Clock, name: str, role: Role, password: str | None
) -> tuple[UserRow, str]:
    """Make an account; without a password one is made up. Returns the account and its password.

    Raises:
        CommandFailed: the name is taken, or is none.
    """
    chosen = password or one_time_password()
    hashed = await passwords.hash(chosen)
    try:
        made = await store.add_user(name, role, hashed)
    except AlreadyExists:
        raise CommandFailed(f"there is a user {name!r} already; bt user passwd {name} sets a new password") from None
    await _note(store, AccessAction.USER_ADDED, made, clock, role.value)
    return made, chosen


async def set_password(store: Store, passwords: Passwords, clock: Clock, name: str, password: str | None) -> str:
    """Give a user a new password and revoke every token issued before. Returns the password."""
    user = await _known(store, name)
    chosen = password or one_time_password()
    hashed = await passwords.hash(chosen)
    await store.update_user(replace(user, password_hash=hashed, token_version=user.token_version + 1))
    await _note(store, AccessAction.PASSWORD_SET, user, clock)
    return chosen


async def disable(store: Store, clock: Clock, name: str) -> None:
    """Shut a user out: no sign-in, and every token issued before is revoked. Lists and history stay."""
    user = await _known(store, name)
    if user.role is Role.ADMIN and await _is_last_admin(store, user):
        raise CommandFailed(f"{name!r} is the last admin who can sign in; make another one first")
    await store.update_user(replace(user, password_hash=NO_LOGIN, token_version=user.token_version + 1))
    await _note(store, AccessAction.USER_DISABLED, user, clock)


async def machine_token(store: Store, clock: Clock, secret_key: str, name: str, days: int) -> str:
    """One access token of so many days for a program; it ends with the account's other tokens."""
    user = await _known(store, name)
    if user.password_hash in ("", NO_LOGIN):
        raise CommandFailed(f"{name!r} cannot sign in; bt user passwd {name} sets a password")
    sessions = Sessions(store, clock, secret_key)
    return (await sessions.open_for_machine(user, AT_THE_MACHINE, days * 86_400)).access_token


async def listed(store: Store) -> Table:
    table = Table("id", "name", "role", "sign-in", "made")
    for user in await store.users():
        made = user.created_at.strftime("%Y-%m-%d %H:%M %Z")
        table.add_row(str(user.id), user.name, user.role.value, sign_in_of(user), made)
    return table


def sign_in_of(user: UserRow) -> str:
    if user.password_hash == NO_LOGIN:
        return "disabled"
    return "password" if user.password_hash else "none (made on first use)"


async def _note(store: Store, action: AccessAction, user: UserRow, clock: Clock, detail: str = "") -> None:
    await store.note_access(AccessRow(action, user.id, user.name, AT_THE_MACHINE, detail, clock.now()))


async def _known(store: Store, name: str) -> UserRow:
    user = await store.user_by_name(name)
    if user is None:
        raise CommandFailed(f"there is no user {name!r}; bt user list shows them")
    return user


async def _is_last_admin(store: Store, user: UserRow) -> bool:
    others = (other for other in await store.users() if other.id != user.id and other.role is Role.ADMIN)
    return not any(other.password_hash not in ("", NO_LOGIN) for other in others)
