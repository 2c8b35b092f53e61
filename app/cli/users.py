"""``bt user``: accounts, straight in the database."""

from __future__ import annotations

from dataclasses import replace

from rich.table import Table

from app.cli.failure import CommandFailed
from app.core.errors import AlreadyExists
from app.ports.store import Role, Store, UserRow
from app.rest.passwords import NO_LOGIN, Passwords, one_time_password


async def add(store: Store, passwords: Passwords, name: str, role: Role, password: str | None) -> tuple[UserRow, str]:
    """Make an account; without a password one is made up. Returns the account and its password.

    Raises:
        CommandFailed: the name is taken, or is none.
    """
    chosen = password or one_time_password()
    hashed = await passwords.hash(chosen)
    try:
        return await store.add_user(name, role, hashed), chosen
    except AlreadyExists:
        raise CommandFailed(f"there is a user {name!r} already; bt user passwd {name} sets a new password") from None


async def set_password(store: Store, passwords: Passwords, name: str, password: str | None) -> str:
    """Give a user a new password and revoke every token issued before. Returns the password."""
    user = await _known(store, name)
    chosen = password or one_time_password()
    hashed = await passwords.hash(chosen)
    await store.update_user(replace(user, password_hash=hashed, token_version=user.token_version + 1))
    return chosen


async def disable(store: Store, name: str) -> None:
    """Shut a user out: no sign-in, and every token issued before is revoked. Lists and history stay."""
    user = await _known(store, name)
    if user.role is Role.ADMIN and await _is_last_admin(store, user):
        raise CommandFailed(f"{name!r} is the last admin who can sign in; make another one first")
    await store.update_user(replace(user, password_hash=NO_LOGIN, token_version=user.token_version + 1))


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


async def _known(store: Store, name: str) -> UserRow:
    user = await store.user_by_name(name)
    if user is None:
        raise CommandFailed(f"there is no user {name!r}; bt user list shows them")
    return user


async def _is_last_admin(store: Store, user: UserRow) -> bool:
    others = (other for other in await store.users() if other.id != user.id and other.role is Role.ADMIN)
    return not any(other.password_hash not in ("", NO_LOGIN) for other in others)
