"""The commands of ``bt`` and their options; the work is in the modules beside this one."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from app.cli.failure import CommandFailed, Exit
from app.core.errors import TerminalError
from app.settings import Settings, SettingsError, load_settings

T = TypeVar("T")

# typer carries a click of its own and gives only leaves of its errors a public name; this is their root.
_BadCommandLine: type[Exception] = typer.BadParameter.__mro__[2]

cli = typer.Typer(
    name="bt",
    help="Broking Terminal: market-data subscriptions for a broking desk on DhanHQ.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
user = typer.Typer(help="Accounts for signing in.", no_args_is_help=True)
cli.add_typer(user, name="user")

Url = Annotated[str | None, typer.Option(help="The service; by default the one that the settings describe.")]
Token = Annotated[str | None, typer.Option(envvar="BT_TOKEN", help="Access token, where the service asks for one.")]
ExchangeOption = Annotated[str | None, typer.Option(help="NSE, BSE or MCX, where the symbol is on several.")]
FromStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]


def run(arguments: list[str] | None = None) -> int:
    """Run one command line; return its exit code."""
    try:
        code = cli(args=arguments, prog_name="bt", standalone_mode=False)
    except _BadCommandLine as error:
        return _explain(error)
    except CommandFailed as error:
        return _fail(error.line, error.exit_code)
    except (SettingsError, TerminalError) as error:
        return _fail(str(error), Exit.FAILED)
    except (typer.Abort, KeyboardInterrupt):
        return 130
    return int(code or 0)


def _fail(line: str, code: Exit) -> int:
    print(f"bt: {line}", file=sys.stderr)
    return int(code)


def _explain(error: Exception) -> int:
    message: str = error.format_message()  # type: ignore[attr-defined]
    if message.startswith("Usage:"):  # a group without a command
        print(message)
        return int(Exit.USAGE)
    return _fail(f"{message} Try: bt --help", Exit.USAGE)


def _out() -> Console:
    return Console(highlight=False)


def _remote(url: str | None, token: str | None) -> Any:
    from app.cli.remote import Remote

    return Remote(url or own_url(load_settings()), token)


def own_url(settings: Settings) -> str:
    """Where the service that these settings describe is reached from this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.bt_host, settings.bt_host)  # noqa: S104 - a comparison
    return f"http://[{host}]:{settings.bt_port}" if ":" in host else f"http://{host}:{settings.bt_port}"


@cli.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Instead of BT_HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Instead of BT_PORT.", min=0, max=65_535)] = None,
    reload: Annotated[bool, typer.Option(help="Start anew when the source changes.")] = False,
) -> None:
    """Start the service."""
    import uvicorn

    from app.rest.listener import PatientHttp

    for name, value in (("BT_HOST", host), ("BT_PORT", port)):
        if value is not None:
            os.environ[name] = str(value)  # the application reads its settings itself, also in a reloader's child
    settings = load_settings()
    refuse_second_owner(settings)
    refuse_taken_port(settings)
    with _ended_by_server():
        uvicorn.run(
            "app.main:app",
            host=settings.bt_host,
            port=settings.bt_port,
            http=PatientHttp,
            reload=reload,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,  # who is asking is judged by the connection itself
            timeout_graceful_shutdown=10,
            ws_max_size=65_536,
            ws_per_message_deflate=False,  # packed columns hardly shrink, and packing them anew for each client is dear
        )


def refuse_second_owner(settings: Settings) -> None:
    """Say who owns the feed of this data directory, and end; a second owner would fight the first over its sockets."""
    from app.lifecycle.feed_lock import FeedLock
    from app.runtime.places import lock_path_of

    if settings.feed_source == "off" or settings.bt_role == "gateway":
        return
    lock = FeedLock(lock_path_of(settings))
    try:
        holder = lock.acquire()
    except OSError as error:
        raise CommandFailed(f"BT_DATA_DIR was {str(settings.bt_data_dir)!r}: {error.strerror}") from None
    if holder is not None:
        raise CommandFailed(f"{holder} owns the feed of {settings.bt_data_dir}; this one opens no socket")
    lock.release()


def refuse_taken_port(settings: Settings) -> None:
    """Say that nothing can listen there before anything is started; the server itself looks last."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.bt_host, settings.bt_port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise CommandFailed(f"BT_HOST was {settings.bt_host!r}: {error.strerror}") from None
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            where = f"BT_HOST {settings.bt_host}, BT_PORT {settings.bt_port}"
            raise CommandFailed(f"cannot listen there ({where}): {os.strerror(error.errno or 0)}") from None


@contextmanager
def _ended_by_server() -> Iterator[None]:
    """The server has exit codes of its own; it has said why already."""
    try:
        yield
    except SystemExit as ended:
        raise typer.Exit(int(Exit.FAILED if ended.code else Exit.OK)) from None


@cli.command()
def sim(
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Of the feed; 0 takes a free one.", min=0, max=65_535)] = 0,
    control_port: Annotated[int, typer.Option(help="Of faults and counts; 0 takes a free one.", min=0, max=65_535)] = 0,
    snapshot: Annotated[Path | None, typer.Option(help="A finished snapshot of the instrument master.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Say where it listens as one line of JSON.")] = False,
    parent: Annotated[int | None, typer.Option(help="Id of the process to end with, even if it is killed.")] = None,
) -> None:
    """Run the exchange simulator by itself."""
    from app.cli.sim_command import run_simulator

    settings = load_settings()
    run_simulator(settings, host, port, control_port, snapshot, as_json=as_json, parent_pid=parent)


@cli.command()
def doctor(
    url: Url = None,
    token: Token = None,
    preopen: Annotated[bool, typer.Option("--preopen", help="Give a verdict for the open: GO or NO-GO.")] = False,
) -> None:
    """Check settings, database, master, feed, clock and coverage."""
    from app.cli.doctor import Doctor, report
    from app.runtime.places import calendar_of, clock_of

    settings = load_settings()
    with _remote(url, token) as remote:
        examined = Doctor(settings, calendar_of(settings), clock_of(settings).now(), remote).examine(preopen=preopen)
        if not report(examined, _out(), preopen=preopen):
            raise CommandFailed("not everything is as it should be")


@cli.command()
def search(
    text: Annotated[list[str], typer.Argument(help="Free text, such as: nifty 25000 ce")],
    limit: Annotated[int, typer.Option(min=1, max=100)] = 20,
    url: Url = None,
    token: Token = None,
) -> None:
    """Find symbols and contracts."""
    from app.cli import show

    with _remote(url, token) as remote:
        show.search(remote, _out(), " ".join(text), limit)


@cli.command()
def chain(
    symbol: str,
    expiry: Annotated[str | None, typer.Argument(help="26FEB2026; the nearest if left out")] = None,
    exchange: ExchangeOption = None,
    url: Url = None,
    token: Token = None,
) -> None:
    """Show one option chain as it stands."""
    from app.cli import show

    with _remote(url, token) as remote:
        show.chain(remote, _out(), symbol, expiry, exchange)


@cli.command()
def watch(
    what: Annotated[list[str], typer.Argument(help="A symbol with or without expiry, tokens, or a stream topic.")],
    updates: Annotated[int | None, typer.Option(help="End after so many updates.", min=1)] = None,
    url: Url = None,
    token: Token = None,
) -> None:
    """Follow a chain, some instruments or any stream topic live."""
    from app.cli.watch import topic_of
    from app.cli.watch import watch as follow

    with _remote(url, token) as remote:
        topic = topic_of(remote, what)
        asyncio.run(follow(remote.url, token, topic, _out(), updates))


@cli.command()
def status(url: Url = None, token: Token = None) -> None:
    """Show health, subscriptions and the feed's connections."""
    from app.cli import show

    with _remote(url, token) as remote:
        show.status(remote, _out())


@cli.command()
def viewers(
    since: Annotated[
        str | None, typer.Option(help="From that day on, such as 2026-02-01; a month if left out.")
    ] = None,
    url: Url = None,
    token: Token = None,
) -> None:
    """Count who saw prices, by day and exchange segment, for the exchanges' reports."""
    from app.cli import show

    with _remote(url, token) as remote:
        show.viewers(remote, _out(), since)


@cli.command()
def migrate() -> None:
    """Bring the database to the newest schema."""
    from app.cli import database

    _out().print(f"schema {database.migrate(load_settings().bt_database_url)}")


@cli.command()
def backup(target: Annotated[Path, typer.Argument(help="The file to write.")]) -> None:
    """Copy the database into one file; the service may go on."""
    from app.cli import database

    with _busy("backing up"):
        report = database.backup(load_settings().bt_database_url, target)
    print(f"{target}: {target.stat().st_size:,} bytes, {_rows(report.rows)}")


@cli.command()
def restore(
    source: Annotated[Path, typer.Argument(help="A file that bt backup wrote.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what the database holds.")] = False,
) -> None:
    """Put a backup in place of the database; the service must be stopped."""
    from app.cli import database

    with _busy("restoring"):
        report = database.restore(load_settings().bt_database_url, source, overwrite=overwrite)
    print(f"restored: {_rows(report.rows)}")


def _busy(what: str) -> Progress:
    """A bar that moves while something without a measure of its own goes on; on stderr, so that output stays clean."""
    columns = (SpinnerColumn(), TextColumn(what), TimeElapsedColumn())
    console = Console(stderr=True)
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    progress.add_task(what, total=None)
    return progress


def _rows(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items() if count) or "no rows"


@cli.command()
def bench() -> None:
    """Run the benchmarks of a source checkout; results land in bench/results."""
    root = Path(__file__).resolve().parents[2]
    if not (root / "bench" / "__main__.py").is_file():
        raise CommandFailed("the benchmarks are part of a source checkout, which this is not")
    raise typer.Exit(subprocess.run([sys.executable, "-m", "bench"], cwd=root, check=False).returncode)


@user.command("add")
def user_add(
    name: str,
    admin: Annotated[bool, typer.Option("--admin", help="May act for everybody and use the admin endpoints.")] = False,
    password_stdin: FromStdin = False,
) -> None:
    """Make an account; without --password-stdin its password is made up and printed once."""
    from app.cli import users
    from app.ports.store import Role

    given = _password(asked=password_stdin)
    role = Role.ADMIN if admin else Role.USER
    made, password = _with_store(lambda store, passwords, clock: users.add(store, passwords, clock, name, role, given))
    _out().print(f"user {made.id}: {made.name} ({made.role.value})" + ("" if given else f", password {password}"))


@user.command("list")
def user_list() -> None:
    """Show the accounts."""
    from app.cli import users

    _out().print(_with_store(lambda store, *_: users.listed(store)))


@user.command("passwd")
def user_passwd(name: str, password_stdin: FromStdin = False) -> None:
    """Set a new password; every token issued before ends."""
    from app.cli import users

    given = _password(asked=password_stdin)
    password = _with_store(lambda store, passwords, clock: users.set_password(store, passwords, clock, name, given))
    _out().print(f"{name}: new password" + ("" if given else f" {password}"))


@user.command("disable")
def user_disable(name: str) -> None:
    """Shut an account out; its lists stay."""
    from app.cli import users

    _with_store(lambda store, _, clock: users.disable(store, clock, name))
    _out().print(f"{name} cannot sign in any more")


@user.command("token")
def user_token(
    name: str,
    days: Annotated[int, typer.Option(help="How long it holds.", min=1, max=366)] = 1,
) -> None:
    """Print an access token for a program, such as BT_TOKEN of this command line."""
    from app.cli import users
    from app.runtime.places import secret_key_of

    key = secret_key_of(load_settings())
    print(_with_store(lambda store, _, clock: users.machine_token(store, clock, key, name, days)))


def _password(*, asked: bool) -> str | None:
    if not asked:
        return None
    password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise CommandFailed("standard input holds no password")
    return password


@contextmanager
def _quiet() -> Iterator[None]:
    """The owners' log is the service's; here a failure is one line of ours."""
    import structlog

    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)


def _with_store(work: Callable[[Any, Any, Any], Awaitable[T]]) -> T:
    """Run some work on the database that the settings name, migrated first."""
    from app.rest.passwords import Passwords
    from app.runtime.places import clock_of
    from app.storage.sql_store import SqlStore

    settings = load_settings()

    async def run_work() -> T:
        clock = clock_of(settings)
        store = SqlStore(settings.bt_database_url, clock)
        await store.start()
        try:
            return await work(store, Passwords(), clock)
        finally:
            await store.stop()

    with _quiet():
        return asyncio.run(run_work())
