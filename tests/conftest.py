"""Nothing may survive a test: no task, no thread, no timer, no socket. Sockets stay on loopback."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from fastapi.dependencies import models as fastapi_models
from xdist.remote import Producer

from tests.service import Service, link_masters
from tests.workers import OneDeskAtATime

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"
THREADS_THAT_STAY = ("asyncio_", "pytest_timeout", "Dummy", "ThreadPoolExecutor")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> OneDeskAtATime:
    return OneDeskAtATime(config, log)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real files; tests that need it skip by name where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("../shared/data is not here")
    return SHARED_DATA


@pytest.fixture(autouse=True)
def no_thread_survives() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    late = [
        thread
        for thread in threading.enumerate()
        if thread not in before
        and thread.is_alive()
        and not thread.daemon
        and not thread.name.startswith(THREADS_THAT_STAY)
    ]
    assert late == [], f"threads survived: {late}"


@pytest.fixture(autouse=True)
async def no_task_or_timer_survives() -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    before = asyncio.all_tasks()
    yield
    late = [task for task in asyncio.all_tasks() - before if task is not asyncio.current_task() and not task.done()]
    assert late == [], f"tasks survived: {late}"
    timers = [handle for handle in getattr(loop, "_scheduled", ()) if not handle.cancelled()]
    assert timers == [], f"timers survived: {timers}"


@pytest.fixture(autouse=True)
def only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and isinstance(address, tuple):
            assert str(address[0]) in {"127.0.0.1", "::1", "localhost"}, f"a test reached for {address}"
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True)
def no_socket_survives() -> Iterator[None]:
    yield
    gc.collect(0)  # an unclosed socket warns when collected, and warnings are errors


@pytest.fixture(autouse=True, scope="module")
def boards_go() -> Iterator[None]:
    """A board is 8 MB in few objects, and a cycle holds it: the collector would see no reason to look.

    The web framework remembers what it found out about every handler, and with a handler its whole application.
    """
    yield
    for cached in vars(fastapi_models).values():
        if hasattr(cached, "cache_clear"):
            cached.cache_clear()
    gc.collect()


@pytest.fixture(scope="session")
def masters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated masters and their snapshots, made once for all services of this run."""
    return tmp_path_factory.mktemp("masters")


@pytest.fixture
def new_service(tmp_path: Path, masters: Path) -> Iterator[Callable[..., Service]]:
    """Make a service of the test's own; all end with the test."""
    made: list[Service] = []

    def make(name: str = "service", command: tuple[str, ...] | None = None, **settings: str) -> Service:
        service = Service(tmp_path / name, settings)
        if command is not None:
            service.command = command
        link_masters(service, masters)
        made.append(service)
        return service

    yield make
    for service in made:
        service.hang_up()
        service.http.close()
        if service.process is not None and service.process.poll() is None:
            service.kill()
            service.http.close()
