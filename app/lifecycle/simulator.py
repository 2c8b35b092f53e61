"""The exchange simulator as a child process: started before the feed, restarted on the same port if it dies."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 5.0
RESTART_DELAY_S = 1.0


@dataclass(frozen=True, slots=True)
class SimulatorAddress:
    feed_url: str
    control_url: str
    port: int


class SimulatorProcess:
    """Runs ``python -m app.cli sim``; the child watches its parent and dies with it, even on ``kill -9``."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        self._arguments = tuple(arguments)
        self._environment = dict(environment)
        self._process: Process | None = None
        self._port = 0
        self._log = structlog.get_logger("simulator")

    @property
    def pid(self) -> int | None:
        """The child's process id; None before the first start."""
        return None if self._process is None else self._process.pid

    async def start(self) -> SimulatorAddress:
        """Start the child and return where it listens.

        Raises:
            RuntimeError: it ended, or said nothing in time.
        """
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "app.cli", "sim", "--json", "--port", str(self._port), "--parent", str(os.getpid())),
            *self._arguments,
            stdin=DEVNULL,
            stdout=PIPE,
            env=self._environment,
        )
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                line = await self._process.stdout.readline()
        except TimeoutError:
            await self.stop()
            raise RuntimeError(f"the simulator said nothing within {START_TIMEOUT_S:.0f} s") from None
        if not line:
            raise RuntimeError(f"the simulator ended with code {await self._process.wait()}")
        said = json.loads(line)
        self._port = int(said["port"])
        return SimulatorAddress(said["feed_url"], said["control_url"], self._port)

    async def run(self, started: Callable[[SimulatorAddress], None]) -> None:
        """Keep a child running until cancelled; ``started`` is told each time where it listens."""
        while True:
            try:
                started(await self.start())
            except (RuntimeError, OSError) as error:
                self._log.error("simulator did not start", error=str(error))
            else:
                assert self._process is not None
                code = await self._process.wait()
                self._log.warning("simulator ended, starting it again", code=code)
            await asyncio.sleep(RESTART_DELAY_S)

    def restart_with(self, arguments: Sequence[str]) -> None:
        """End the child; :meth:`run` starts it again on its port, with these arguments from now on."""
        if tuple(arguments) == self._arguments:
            return
        self._arguments = tuple(arguments)
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()

    async def stop(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
