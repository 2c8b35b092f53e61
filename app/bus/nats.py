"""The bus between processes: NATS through nats-py, with a bound of our own on what waits to be sent.

nats-py gives no back-pressure: it would buffer without end. So ``publish`` appends to a bounded buffer that gives up
its oldest message, and one task moves it to the server in portions, each confirmed by a round trip. That task also
connects, and connects again after a loss: nats-py's own reconnection is off, it ends for good on some errors.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import BadSubjectError, MaxPayloadError, SlowConsumerError
from nats.errors import Error as NatsError

from app.core.backoff import Backoff
from app.ports.bus import Deliver

OUTGOING_BYTES_MAX = 16 * 1024 * 1024
OUTGOING_MESSAGES_MAX = 50_000
PORTION_BYTES = 256 * 1024  # sent between two confirmations; far below the 2 MiB at which nats-py stops and waits
INCOMING_BYTES_MAX = 16 * 1024 * 1024  # of one subscription; beyond it nats-py drops, and we count
INCOMING_MESSAGES_MAX = 50_000
CONNECT_S = 5.0
CONFIRM_S = 5.0  # a server that confirms nothing for so long is lost
START_S = 15.0
STOP_S = 2.0  # how long a stop tries to send what waits
PING_EVERY_S = 10
BACKOFF_CAP_S = 5.0
IDLE_S = 1.0  # how often an idle bus looks whether its connection still stands
ENVELOPE_BYTES = 32  # what the protocol adds to a message, about

_UNSENDABLE = (BadSubjectError, MaxPayloadError)


@dataclass(slots=True, eq=False)
class _Reader:
    """One wish for messages; it outlives connections. ``wire`` is its subscription on the present connection."""

    bus: NatsBus = field(repr=False)
    pattern: str
    deliver: Deliver
    open: bool = True
    wire: Subscription | None = None

    def close(self) -> None:
        if self.open:
            self.open = False
            self.bus.changed()

    async def receive(self, message: Msg) -> None:
        if not self.open:
            return
        try:
            self.deliver(message.subject, message.data)
        except Exception as error:  # nats-py would swallow it
            self.bus.fail(error)


class NatsBus:
    """Implements ``ports.bus.Bus``. Start and stop it from one task: an error in a reader ends that task.

    What was published while the server is away waits within the bound and is sent on return; a portion whose
    confirmation was lost is given up and counted, though some of it may have arrived.
    """

    def __init__(
        self,
        url: str,
        rng: random.Random,
        *,
        bytes_max: int = OUTGOING_BYTES_MAX,
        messages_max: int = OUTGOING_MESSAGES_MAX,
        start_s: float = START_S,
        confirm_s: float = CONFIRM_S,
    ) -> None:
        self._url = url
        self._backoff = Backoff(rng, cap_s=BACKOFF_CAP_S, healthy_s=10.0)
        self._bytes_max = bytes_max
        self._messages_max = messages_max
        self._start_s = start_s
        self._confirm_s = confirm_s
        self._outgoing: deque[tuple[str, bytes]] = deque()
        self._outgoing_bytes = 0
        self._dropped = 0
        self._readers: list[_Reader] = []
        self._wake = asyncio.Event()
        self._ready = asyncio.Event()
        self._stopping = False
        self._failure: Exception | None = None
        self._tasks: AsyncExitStack | None = None
        self._runner: asyncio.Task[None] | None = None
        self._confirming: asyncio.Timeout | None = None
        self._log = structlog.get_logger().bind(server=_address(url))

    async def start(self) -> None:
        """Connect, with every subscription in place.

        Raises:
            ConnectionError: the server did not take us within the time given.
        """
        self._stopping = False
        self._failure = None
        self._ready.clear()
        self._tasks = AsyncExitStack()
        group = await self._tasks.enter_async_context(asyncio.TaskGroup())
        self._runner = group.create_task(self._run(), name="bus")
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._start_s):
                    await self._ready.wait()
        finally:
            if not self._ready.is_set():
                await self.stop()
        if not self._ready.is_set():
            raise ConnectionError(f"BT_NATS_URL: no NATS server at {_address(self._url)}")

    async def stop(self) -> None:
        """Send what waits, within a bound of time, and disconnect; subscriptions stay for the next start."""
        stack, self._tasks = self._tasks, None
        if stack is None or self._runner is None:
            return
        self._stopping = True
        self._wake.set()
        if self._ready.is_set():
            await asyncio.wait([self._runner], timeout=STOP_S)
        self._runner.cancel()
        await stack.aclose()
        self._runner = None
        self._give_up(len(self._outgoing))

    def publish(self, subject: str, payload: bytes) -> None:
        if self._tasks is None:
            self._dropped += 1
            return
        self._outgoing.append((subject, payload))
        self._outgoing_bytes += len(payload)
        while self._outgoing_bytes > self._bytes_max or len(self._outgoing) > self._messages_max:
            self._give_up(1)
        self._wake.set()

    def subscribe(self, subject: str, deliver: Deliver) -> _Reader:
        reader = _Reader(self, subject, deliver)
        self._readers.append(reader)
        self.changed()
        return reader

    @property
    def dropped(self) -> int:
        return self._dropped

    @property
    def waiting(self) -> int:
        """Messages not yet handed to the server."""
        return len(self._outgoing)

    def changed(self) -> None:
        """Tell the task that a subscription came or went. Caller: a reader."""
        self._wake.set()

    def fail(self, error: Exception) -> None:
        """End the task with a reader's error: a broken reader is a broken house. Caller: a reader."""
        self._failure = error
        self._wake.set()

    def _give_up(self, count: int) -> None:
        for _ in range(count):
            _, payload = self._outgoing.popleft()
            self._outgoing_bytes -= len(payload)
        self._dropped += count

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        lost = False
        while not self._stopping:
            client = Client()
            try:
                await self._connect(client)
                if lost:
                    self._log.info("bus_back")
                lost = False
                since = loop.time()
                await self._serve(client)
                self._backoff.was_up_for(loop.time() - since)
            except (NatsError, OSError) as error:
                if not lost:
                    self._log.warning("bus_lost", reason=type(error).__name__)
                lost = True
            finally:
                await self._disconnect(client)
            await self._wait_to_retry(self._backoff.next_delay_s())

    async def _connect(self, client: Client) -> None:
        async with asyncio.timeout(CONNECT_S):
            await client.connect(
                self._url,
                name="broking-terminal",
                allow_reconnect=False,
                max_reconnect_attempts=1,  # nats-py tries a first connection this often, and once more
                reconnect_time_wait=0,
                connect_timeout=int(CONNECT_S),
                ping_interval=PING_EVERY_S,
                max_outstanding_pings=2,
                error_cb=self._on_error,
                closed_cb=self._on_closed,
            )

    async def _disconnect(self, client: Client) -> None:
        # nats-py forgets the tasks of its subscriptions when its own close meets a connection lost with bytes unsent.
        for reader in self._readers:
            if reader.wire is not None:
                reader.wire._stop_processing()
                reader.wire = None
        with suppress(NatsError, OSError):
            async with asyncio.timeout(STOP_S):
                await client.close()

    async def _serve(self, client: Client) -> None:
        while client.is_connected:
            self._wake.clear()
            if self._failure is not None:
                raise self._failure
            await self._match_subscriptions(client)
            if self._outgoing:
                await self._send_portion(client)
            elif self._stopping:
                return
            else:
                await self._pause(IDLE_S)
        raise ConnectionResetError("the server closed the connection")

    async def _match_subscriptions(self, client: Client) -> None:
        added = False
        for reader in tuple(self._readers):
            if reader.open and reader.wire is None:
                reader.wire = await client.subscribe(
                    reader.pattern,
                    cb=reader.receive,
                    pending_msgs_limit=INCOMING_MESSAGES_MAX,
                    pending_bytes_limit=INCOMING_BYTES_MAX,
                )
                added = True
            elif not reader.open:
                self._readers.remove(reader)
                if reader.wire is not None:
                    await reader.wire.unsubscribe()
        if added or not self._ready.is_set():
            await self._confirm(client)
            self._ready.set()

    async def _send_portion(self, client: Client) -> None:
        sent = size = 0
        try:
            while self._outgoing and size < PORTION_BYTES:
                subject, payload = self._outgoing.popleft()
                self._outgoing_bytes -= len(payload)
                size += len(payload) + len(subject) + ENVELOPE_BYTES
                sent += 1
                try:
                    await client.publish(subject, payload)
                except _UNSENDABLE:
                    sent -= 1
                    self._dropped += 1
            await self._confirm(client)
        except BaseException:
            self._dropped += sent
            raise

    async def _confirm(self, client: Client) -> None:
        try:
            async with asyncio.timeout(self._confirm_s) as self._confirming:
                await client.flush(timeout=int(self._confirm_s) + 1)
        finally:
            self._confirming = None

    async def _pause(self, seconds: float) -> None:
        # The flag is lowered by whoever looked at what it stands for, before looking.
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    async def _wait_to_retry(self, seconds: float) -> None:
        # Publishing wakes this too; only a stop cuts it short.
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._stopping:
                    self._wake.clear()
                    await self._wake.wait()

    async def _on_error(self, error: Exception) -> None:
        if isinstance(error, SlowConsumerError):
            self._dropped += 1

    async def _on_closed(self) -> None:
        self._wake.set()
        if (
            self._confirming is not None and not self._confirming.expired()
        ):  # nats-py would wait for an answer that cannot come
            self._confirming.reschedule(asyncio.get_running_loop().time())


def _address(url: str) -> str:
    """The server without its credentials, for logs and errors."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}"
