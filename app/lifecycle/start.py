"""The order of start, and its reverse as the way to stop: one exit stack, one task group."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog

from app.core import current
from app.core.blocking import on_loop
from app.core.eod import EndOfDay
from app.core.errors import MasterRefused, StoreUnavailable, TerminalError
from app.dhan.scrip_master import DETAILED_URL, MasterDownload, MasterUnavailable
from app.lifecycle.feed_lock import FeedLock
from app.lifecycle.heap import Heap
from app.lifecycle.listening import own_url
from app.lifecycle.logs import set_up_logs
from app.lifecycle.pulse import Pulse, core_wait_ms
from app.lifecycle.schedule import DailyWork, Schedule
from app.lifecycle.simulator import SimulatorAddress, SimulatorProcess
from app.market.events import Event
from app.market.tiers import UniverseInvalid
from app.rest.auth import ensure_admin
from app.runtime.build import Runtime
from app.runtime.masters import MasterPlan, MasterSource
from app.runtime.places import lock_path_of

SIMULATOR_FILE = "simulator.json"
STANDBY_LOOK_S = 1.0
SESSION_LOOK_S = 1.0


@asynccontextmanager
async def running(runtime: Runtime) -> AsyncIterator[Runtime]:
    """The service, started; everything is undone in reverse when the block ends.

    Raises:
        TerminalError: it cannot start; the message is one line for a person.
    """
    starter = Starter(runtime)
    async with AsyncExitStack() as stack:
        await starter.start(stack)
        yield runtime


class Starter:
    """Starts one runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._settings = runtime.settings
        self._log = structlog.get_logger("service")
        plan = MasterPlan(
            self._settings.bt_data_dir / "master",
            self._settings.bt_instrument_master,
            self._settings.feed_source != "dhan",
            self._settings.bt_sim_seed,
        )
        self._masters = MasterSource(plan, self._download_master)
        self._simulator: SimulatorProcess | None = None
        self._heap = Heap()
        self._is_started = asyncio.Event()

    async def start(self, stack: AsyncExitStack) -> None:
        """Bring everything up; each step puts its own undoing onto ``stack``."""
        runtime = self._runtime
        set_up_logs(self._secrets())
        for hint in self._settings.unknown_names:
            self._log.warning(hint)
        await self._own_the_feed(stack)
        await self._open_store()
        stack.push_async_callback(runtime.store.stop)
        stack.push_async_callback(runtime.upstream.http.aclose)
        await self._sign_in_possible()
        snapshot = await self._load_instruments()
        self._simulator = simulator = self._make_simulator(stack, snapshot)
        await runtime.outbound.bus.start()
        stack.push_async_callback(runtime.outbound.bus.stop)
        runtime.open_interest.load()
        runtime.bar_file.load(runtime.clock.now().date())
        runtime.sessions.look()
        runtime.control.start(await runtime.store.load(), runtime.always_on())
        schedule = self.schedule()
        runtime.status.scheduler = schedule.scheduler
        stack.callback(schedule.stop)
        await schedule.start()
        await self._start_tasks(stack, simulator)
        current.enter(runtime, asyncio.get_running_loop(), on_loop)
        stack.callback(current.leave, runtime)
        stack.callback(self._heap.give_back)
        self._heap.take_over()
        runtime.status.waiting_for.clear()
        runtime.status.ready_s = runtime.clock.monotonic()
        self._is_started.set()

    # -- steps -----------------------------------------------------------------------------------------------------

    async def _open_store(self) -> None:
        try:
            await self._runtime.store.start()
        except StoreUnavailable as error:
            raise StoreUnavailable(
                f"BT_DATABASE_URL was {self._settings.shown_database_url!r}: {error.detail}"
            ) from error

    async def _own_the_feed(self, stack: AsyncExitStack) -> None:
        if self._settings.feed_source == "off" or self._settings.bt_role == "gateway":
            return
        lock = FeedLock(lock_path_of(self._settings))
        holder = lock.acquire()
        if holder is not None:
            self._log.warning(
                f"{holder} owns the feed of {self._settings.bt_data_dir}: this one opens no socket and waits"
            )
        while holder is not None:
            await asyncio.sleep(STANDBY_LOOK_S)
            holder = lock.acquire()
        stack.callback(lock.release)

    async def _sign_in_possible(self) -> None:
        settings = self._settings
        if settings.bt_auth == "off" or (settings.bt_auth == "auto" and settings.is_loopback):
            return
        password = await ensure_admin(self._runtime.store)
        if password is not None:
            # Once, and past the log: a log is kept, this must not be.
            print(f"First sign-in: user admin, password {password} (shown this once)", flush=True)  # noqa: T201

    async def _load_instruments(self) -> Path:
        day = self._runtime.clock.now().date()
        path = await self._masters.snapshot(day)
        report = self._runtime.registry.load(path)
        self._runtime.status.master_refused = self._masters.last_refused
        self._note_master()
        self._log.info("instruments loaded", rows=report.rows, in_use=report.in_use, source=report.source)
        return path

    def _note_master(self) -> None:
        concerns = self._runtime.status.concerns
        if self._masters.last_refused is None:
            concerns.pop("master", None)
        else:
            concerns["master"] = f"instrument master refused, an earlier one is in use: {self._masters.last_refused}"

    async def _download_master(self, given: str | None, directory: Path) -> Path:
        download = MasterDownload(self._runtime.upstream.http, given or DETAILED_URL, directory)
        try:
            fetched = await download.fetch()
        except MasterUnavailable as error:
            raise MasterRefused(str(error)) from None
        if fetched.problem is not None:
            self._log.warning("instrument master not refreshed, yesterday's is used", reason=fetched.problem)
        return fetched.path

    def _make_simulator(self, stack: AsyncExitStack, snapshot: Path) -> SimulatorProcess | None:
        if self._settings.feed_source != "simulator":
            return None
        simulator = SimulatorProcess(("--snapshot", str(snapshot)), self._simulator_environment())
        stack.push_async_callback(simulator.stop)
        return simulator

    def _point_at(self, address: SimulatorAddress) -> None:
        feed = self._runtime.upstream.feed
        assert feed is not None
        feed.point_at(address.feed_url)
        self._runtime.upstream.chains.point_at(f"{address.control_url}/v2")
        said = {"feed_url": address.feed_url, "control_url": address.control_url}
        try:
            (self._settings.bt_data_dir / SIMULATOR_FILE).write_text(json.dumps(said), encoding="ascii")
        except OSError as error:  # after a restart of the simulator: only tools look there
            self._log.warning("not kept", what=SIMULATOR_FILE, reason=error.strerror)

    def _simulator_environment(self) -> Mapping[str, str]:
        settings = self._settings
        told = {
            "BT_SIM_SEED": str(settings.bt_sim_seed),
            "BT_SIM_RATE": str(settings.bt_sim_rate),
            "BT_SIM_UNTRADED": str(settings.bt_sim_untraded),
            "BT_SIM_HOURS": settings.bt_sim_hours,
            "BT_FEED": "simulator",
        }
        if settings.bt_sim_date is not None:
            told["BT_SIM_DATE"] = settings.bt_sim_date.isoformat()
        return {**os.environ, **told}

    async def _start_tasks(self, stack: AsyncExitStack, simulator: SimulatorProcess | None) -> None:
        runtime = self._runtime
        runtime.outbound.publisher.start()
        stack.callback(runtime.outbound.publisher.stop)
        runtime.outbound.hub.start()
        stack.callback(runtime.outbound.hub.stop)
        stack.push_async_callback(self._flush)
        stack.push_async_callback(runtime.bar_file.save)
        stack.push_async_callback(runtime.outbound.audience.flush)
        tasks = Supervisor()
        stack.push_async_callback(tasks.stop)
        works: list[Coroutine[Any, Any, None]] = [
            runtime.control.run(),
            runtime.outbound.publisher.run(),
            runtime.outbound.hub.run(),
            runtime.outbound.stream.watch_sessions(),
            Pulse(runtime.clock, runtime.status, core_wait_ms).run(),
            self._watch_sessions(),
            self._announce(),
            runtime.outbound.recorder.run(),
            runtime.bar_file.run(),
            runtime.outbound.audience.run(),
        ]
        if runtime.upstream.feed is not None:
            works += [runtime.ws_manager.run(), runtime.upstream.tokens.run(), runtime.oi_baselines.run()]
        if simulator is not None:
            works.append(simulator.run(self._point_at))
        tasks.start(works)

    async def _flush(self) -> None:
        try:
            await self._runtime.control.flush()
        except StoreUnavailable as error:
            self._log.warning("not everything was written before the stop", reason=error.detail)

    # -- by the clock ------------------------------------------------------------------------------------------------

    def schedule(self) -> Schedule:
        """What happens by the clock; neither planned nor started."""
        runtime = self._runtime
        work = DailyWork(
            end_of_day=self._end_of_day,
            warn=self._warn_of_eod,
            refresh_master=self._refresh_master,
            prune_audit=self._prune_audit,
            crashed=end_process,
        )
        return Schedule(
            runtime.clock, runtime.calendar, self._settings.eod_rule, work, runtime.clock.offset_s, self._tell_next_eod
        )

    async def _end_of_day(self, due: EndOfDay) -> int | None:
        runtime = self._runtime
        released = await runtime.watchlists.end_of_day(due.mark, due.at, due.exchanges)
        if released is not None:
            self._tell_eod(due, "done", released=released)
        return released

    def _warn_of_eod(self, due: EndOfDay) -> None:
        self._tell_eod(due, "soon")

    def _tell_eod(self, due: EndOfDay, phase: str, **more: object) -> None:
        data: dict[str, object] = {
            "phase": phase,
            "at": due.at.isoformat(),
            "exchanges": sorted(due.exchanges),
            "keeps_watchlists": self._settings.bt_eod_keep_watchlists,
            **more,
        }
        self._runtime.relay(Event("eod", self._runtime.clock.now_ms(), None, data))

    def _tell_next_eod(self, schedule: Schedule) -> None:
        due = schedule.next_eod
        self._runtime.status.next_eod = (
            None
            if due is None
            else {
                "next": due.at.isoformat(),
                "exchanges": sorted(due.exchanges),
                "keeps_watchlists": self._settings.bt_eod_keep_watchlists,
            }
        )

    async def _refresh_master(self) -> None:
        await self._use_new_master()
        self._heap.thaw()  # before the open, when nobody waits

    async def _use_new_master(self) -> None:
        try:
            snapshot: Path | None = await self._load_instruments()
        except TerminalError as error:
            self._runtime.status.concerns["master"] = f"instrument master not refreshed: {error.detail}"
            snapshot = None
        await self._follow_master()  # an old one too: what was over with the day before leaves
        if snapshot is not None and self._simulator is not None:  # it must list what we list
            self._simulator.restart_with(("--snapshot", str(snapshot)))

    async def _follow_master(self) -> None:
        concerns = self._runtime.status.concerns
        try:
            await self._runtime.follow_master()
        except UniverseInvalid as error:
            concerns["tier_b"] = f"the always-on universe of the day before stays: {error.detail}"
        else:
            concerns.pop("tier_b", None)

    async def _prune_audit(self) -> None:
        before = self._runtime.clock.now() - timedelta(days=self._settings.bt_audit_days)
        try:
            await self._runtime.store.prune_audit(before)
            await self._runtime.store.prune_access(before, self._runtime.clock.now())
        except StoreUnavailable as error:  # what is too old now is so tomorrow
            self._log.warning("the audit was not pruned", reason=error.detail)

    async def _watch_sessions(self) -> None:
        while True:
            await asyncio.sleep(SESSION_LOOK_S)
            self._runtime.sessions.look()
            self._runtime.market.fill.look()
            self._heap.look()

    async def _announce(self) -> None:
        await self._is_started.wait()
        url = await own_url(self._settings.bt_host, self._settings.bt_port)
        whose = {
            "simulator": "SIMULATED exchange: no Dhan credentials are set",
            "dhan": "live through DhanHQ",
            "off": "no feed",
        }[self._settings.feed_source]
        self._log.info(f"{url}  ({whose})" if url else whose)
        self._log.info("Backend ready!")

    def _secrets(self) -> list[str]:
        settings = self._settings
        wrapped = (
            settings.dhan_access_token,
            settings.dhan_pin,
            settings.dhan_totp_secret,
            settings.bt_secret_key,
        )
        plain = [secret.get_secret_value() for secret in wrapped if secret is not None]
        return [*plain, *settings.url_passwords]


class Supervisor:
    """Runs the service's tasks in one group; one that fails ends the process, because restart is recovery."""

    def __init__(self) -> None:
        self._main: asyncio.Task[None] | None = None
        self._works: Sequence[Coroutine[Any, Any, None]] = ()

    def start(self, works: Sequence[Coroutine[Any, Any, None]]) -> None:
        self._works = works
        self._main = asyncio.ensure_future(self._run(works))

    async def stop(self) -> None:
        if self._main is not None:
            self._main.cancel()
            await asyncio.wait([self._main])
        for work in self._works:
            work.close()  # one that never got its first turn

    async def _run(self, works: Sequence[Coroutine[Any, Any, None]]) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for work in works:
                    group.create_task(work)
        except* Exception as failed:
            end_process(failed)


def end_process(failed: BaseException) -> None:
    """Something broke that nobody foresaw: say so and stop in order; restart is recovery."""
    log = structlog.get_logger("service")
    log.error("a task failed: the process ends, restart is recovery", exc_info=failed)
    signal.raise_signal(signal.SIGTERM)
