"""The real service as a child process, for tests that must see it from outside: start, kill -9, restart."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[1]
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
PR_SET_PDEATHSIG = 1
LITERAL_DAY = "2026-02-03"  # the day of the user's document: its literal examples run as they would have


def die_with_parent(with_signal: int = signal.SIGKILL) -> None:
    """Runs in the child before its program: a test run that is killed leaves nothing behind (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, with_signal)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Service:
    """One service with its own directory, database and port."""

    directory: Path
    settings: dict[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ("-m", "app.cli", "serve")
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=30, verify=False), init=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def stream_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/api/v2/stream"

    @property
    def log_path(self) -> Path:
        return self.directory / "service.log"

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    @property
    def simulator(self) -> dict[str, Any]:
        """Where the service's own simulator listens: ``feed_url``, ``control_url``."""
        said: dict[str, Any] = json.loads((self.directory / "data" / "simulator.json").read_text())
        return said

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("BT_", "DHAN_"))}
        return kept | {
            "BT_PORT": str(self.port),
            "BT_DATA_DIR": str(self.directory / "data"),
            "BT_DATABASE_URL": f"sqlite+aiosqlite:///{self.directory / 'app.db'}",
            "BT_SIM_DATE": LITERAL_DAY,
            "PYTHONPATH": str(ROOT),
            **self.settings,
        }

    def launch(self) -> None:
        """Start the process without waiting for it to be ready."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self.command],
                cwd=self.directory,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,
            )

    def start(self) -> Service:
        self.launch()
        self.wait_ready()
        return self

    def wait_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        assert self.process is not None
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the service ended with {self.process.returncode}:\n{self.log[-4000:]}")
            try:
                if self.http.get(f"{self.url}/ready", timeout=2).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"not ready within {timeout_s:.0f} s:\n{self.log[-4000:]}")

    def stop(self) -> int:
        """Ask it to end, and return its exit code."""
        self.hang_up()
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"did not stop within {STOP_TIMEOUT_S:.0f} s:\n{self.log[-4000:]}") from None
        return self.process.returncode

    def kill(self) -> None:
        """``kill -9``."""
        assert self.process is not None
        self.hang_up()
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        """Stop it where it stands: its connections stay open and silent until :meth:`thaw`."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def hang_up(self) -> None:
        """Close the connections of the client; the next call opens new ones."""
        self.http.close()
        self.http = httpx.Client(timeout=30, verify=False)

    def get(self, path: str, **parameters: Any) -> Any:
        response = self.http.get(f"{self.url}{path}", params=parameters or None)
        assert response.status_code == 200, f"{path}: {response.status_code} {response.text[:500]}"
        return response.json()

    def post(self, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        return self.http.post(f"{self.url}{path}", json=body if body is not None else {})

    def status(self) -> dict[str, Any]:
        counts: dict[str, Any] = self.get("/api/v2/subscriptions/status")["subscriptions"]
        return counts

    def wait_for(self, what: str, timeout_s: float, condition: Any) -> Any:
        """Poll until ``condition()`` is truthy and return that value; ``what`` names it in the failure."""
        deadline = time.monotonic() + timeout_s
        while True:
            found = condition()
            if found:
                return found
            if time.monotonic() > deadline:
                raise AssertionError(f"{what}: not within {timeout_s:.0f} s; last log:\n{self.log[-2000:]}")
            time.sleep(0.05)

    def __enter__(self) -> Service:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and self.process is not None and self.process.poll() is None:
            self.kill()
            return
        self.stop()


def link_masters(service: Service, masters: Path) -> None:
    """Share a folder of masters: what one service built, the next one finds."""
    data = service.directory / "data"
    data.mkdir(parents=True, exist_ok=True)
    (data / "master").symlink_to(masters, target_is_directory=True)
