"""Who listens to what. Delivers what the bus brings to the clients of this process; a slow one hurts nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, islice, zip_longest
from typing import Protocol

import orjson

from app.core.errors import Forbidden, TerminalError
from app.ports.bus import Bus, BusSubscription
from app.ports.clock import Clock
from app.stream.demand import EVENT_SUBJECT, TICKS_SUBJECT, WANT_SUBJECT, Op, Want
from app.stream.frames import problem, text
from app.stream.outbox import Outbox
from app.stream.stream_log import Cursor, Step, StreamLog, unpack_step
from app.stream.topics import TOPIC_LENGTH_MAX, Format, Kind, StreamKey, Topic, parse_topic, rate_class

SHOWING = (f"{Kind.CHAIN}:", f"{Kind.WATCHLIST}:")


class TooManyTopics(TerminalError):
    code = "TOO_MANY_TOPICS"
    http_status = 429


class TooManyClients(TerminalError):
    code = "TOO_MANY_CLIENTS"
    http_status = 503
    retriable = True


class NotSubscribed(TerminalError):
    code = "NOT_SUBSCRIBED"
    http_status = 404


@dataclass(frozen=True, slots=True)
class HubSettings:
    """``shown_*``: how many topics keep chains on screen, as eviction sees it: the newest of a client, of a user."""

    topics_max: int = 100
    clients_max: int = 4_000
    shown_max: int = 8
    shown_per_user_max: int = 24
    linger_s: float = 30.0  # how long a sequence is kept for clients that come back and resume
    heartbeat_s: float = 2.0


@dataclass(eq=False, slots=True)
class Client:
    """One connection. ``wake`` is called when there is mail; it must only set a flag."""

    user_id: int
    is_admin: bool
    format: Format
    wake: Callable[[], None]
    address: str = ""
    outbox: Outbox[StreamKey] = field(default_factory=Outbox)
    topics: dict[str, StreamKey] = field(default_factory=dict)
    wants_events: bool = False

    def may_see(self, user_id: int) -> bool:
        return self.is_admin or user_id == self.user_id


@dataclass(eq=False, slots=True)
class Stream:
    """One sequence as this process holds it."""

    key: StreamKey
    log: StreamLog = field(default_factory=StreamLog)
    readers: dict[Client, None] = field(default_factory=dict)
    asked_s: float | None = None
    idle_since_s: float | None = None
    reader: BusSubscription | None = None


class TopicCheck(Protocol):
    def __call__(self, topic: Topic) -> None:
        """Raises a ``TerminalError`` for a topic that names what is not listed."""
        ...


class Audience(Protocol):
    """Who may watch, beyond whose list it is, and who does."""

    def require_topic(self, topic: Topic, user_id: int, *, is_admin: bool) -> None:
        """Raises a ``TerminalError`` where that user may not."""
        ...

    def saw(self, topic: Topic, user_id: int, address: str) -> None:
        """Told once a subscription, and again on each day that it lasts."""
        ...


class Hub:
    """OWNS the clients and what they watch.

    ``wide`` reads all of the bus's ticks through one subscription (in process); otherwise there is one for each
    sequence that somebody here watches, so that a bus between machines carries nothing in vain.
    """

    def __init__(
        self,
        bus: Bus,
        clock: Clock,
        check: TopicCheck,
        settings: HubSettings | None = None,
        *,
        name: str = "hub",
        wide: bool = True,
        audience: Audience | None = None,
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._check = check
        self._settings = settings or HubSettings()
        self._name = name
        self._wide = wide
        self._audience = audience
        self._day = clock.now().date()
        self._clients: dict[Client, None] = {}
        self._streams: dict[StreamKey, Stream] = {}
        self._by_subject: dict[str, Stream] = {}
        self._subscriptions: list[BusSubscription] = []
        self.malformed = 0  # messages of the bus that could not be read

    @property
    def clients(self) -> int:
        return len(self._clients)

    @property
    def streams(self) -> int:
        return len(self._streams)

    # -- life

    def start(self) -> None:
        self._subscriptions.append(self._bus.subscribe(EVENT_SUBJECT, self._deliver_event))
        if self._wide:
            self._subscriptions.append(self._bus.subscribe(TICKS_SUBJECT, self._deliver))

    def stop(self) -> None:
        for reader in self._subscriptions:
            reader.close()
        for key in list(self._streams):
            self._drop(key)

    async def run(self) -> None:
        """Repeat the demand until cancelled."""
        while True:
            await asyncio.sleep(self._settings.heartbeat_s)
            self.beat()

    def beat(self) -> None:
        """Let go of sequences nobody came back for, and tell the publisher all that is wanted and was heard."""
        now_s = self._clock.monotonic()
        for key, stream in list(self._streams.items()):
            if stream.idle_since_s is not None and now_s - stream.idle_since_s >= self._settings.linger_s:
                self._drop(key)
            elif stream.asked_s is not None:
                self._ask(stream)
        heads = [stream.log.head for stream in self._streams.values()]
        self._tell(Op.ALL, self._streams, heads, self.shown())
        if self._day != self._clock.now().date():
            self._day = self._clock.now().date()
            self._note_viewers()

    def _note_viewers(self) -> None:
        for client in self._clients:
            for name in client.topics:
                self._note_viewer(client, parse_topic(name))

    def _note_viewer(self, client: Client, topic: Topic) -> None:
        if self._audience is not None:
            with suppress(TerminalError):  # listed no longer: nothing is shown
                self._audience.saw(topic, client.user_id, client.address)

    def shown(self) -> set[str]:
        """The topics that put chains on the screens of clients: chains, and users' lists."""
        by_user: dict[int, list[list[str]]] = {}
        for client in self._clients:
            newest_first = [name for name in reversed(client.topics) if name.startswith(SHOWING)]
            by_user.setdefault(client.user_id, []).append(newest_first[: self._settings.shown_max])
        found: set[str] = set()
        for screens in by_user.values():
            # Each screen's newest before any screen's second: nobody's second window takes away the first of another.
            in_turn = chain.from_iterable(zip_longest(*screens))
            named = dict.fromkeys(name for name in in_turn if name is not None)
            found.update(islice(named, self._settings.shown_per_user_max))
        return found

    # -- clients

    def join(self, user_id: int, is_admin: bool, form: Format, wake: Callable[[], None], address: str = "") -> Client:
        """Raises ``TooManyClients``."""
        if len(self._clients) >= self._settings.clients_max:
            raise TooManyClients("this server has as many stream clients as it takes")
        client = Client(user_id, is_admin, form, wake, address)
        self._clients[client] = None
        return client

    def become(self, client: Client, user_id: int, is_admin: bool) -> None:
        """Serve the connection as another caller: what the one before was allowed to watch ends."""
        if (client.user_id, client.is_admin) == (user_id, is_admin):
            return
        client.user_id, client.is_admin, client.wants_events = user_id, is_admin, False
        gone = list(client.topics)
        for name in gone:
            self._unfollow(client, name)
        if gone:
            self._post(client, text(type="unsubscribed", topics=gone))

    def leave(self, client: Client) -> None:
        self._clients.pop(client, None)
        for name in list(client.topics):
            self._unfollow(client, name)

    def subscribe(self, client: Client, texts: Iterable[object], max_rate_hz: object = None) -> None:
        """Watch topics; each that cannot be is answered by an error, the others are watched.

        Raises:
            RateInvalid: nothing is changed.
        """
        hz = rate_class(max_rate_hz)
        for asked in texts:
            try:
                self._subscribe(client, asked, hz)
            except TerminalError as refused:
                self._refuse(client, refused, asked)

    def unsubscribe(self, client: Client, texts: Iterable[object]) -> None:
        gone = []
        for asked in texts:
            try:
                topic = parse_topic(asked)
                if topic.kind is Kind.EVENTS:
                    client.wants_events = False
                elif topic.name in client.topics:
                    self._unfollow(client, topic.name)
                else:
                    raise NotSubscribed(f"{topic.name[:80]} is not subscribed")
                gone.append(topic.name)
            except TerminalError as refused:
                self._refuse(client, refused, asked)
        self._post(client, text(type="unsubscribed", topics=gone))

    def resume(self, client: Client, asked: object, seq: object, max_rate_hz: object = None) -> None:
        """Go on after ``seq``: with the missing steps if they are still here, else with a snapshot.

        Raises:
            RateInvalid: nothing is changed.
        """
        try:
            topic = self._allowed(client, asked)
            held = client.topics.get(topic.name)
            hz = rate_class(max_rate_hz) if max_rate_hz is not None or held is None else held.hz
            if not isinstance(seq, int) or isinstance(seq, bool) or seq < 0:
                raise NotSubscribed("seq is the number of the last message seen")
            key = StreamKey(topic.name, hz, client.format)
            known = self._streams.get(key) or self._stream_with(topic.name, client.format, seq)
            if known is not None:
                key = known.key
            self._follow(client, key, known.log.resume(seq) if known else Cursor())
            self._note_viewer(client, topic)
        except TerminalError as refused:
            self._refuse(client, refused, asked)

    def _stream_with(self, name: str, form: Format, seq: int) -> Stream | None:
        """The sequence of another rate that the number belongs to."""
        of_topic = (stream for stream in self._streams.values() if stream.key.topic == name)
        return next((each for each in of_topic if each.key.format is form and each.log.resume(seq).next_seq), None)

    def post(self, client: Client, message: bytes) -> None:
        """Answer a client outside of any topic."""
        self._post(client, message)

    def next_messages(self, client: Client) -> list[bytes]:
        """What goes out to this client next: one message, with its dictionary before it if need be; none: wait."""
        outbox = client.outbox
        if outbox.dropped:
            dropped, outbox.dropped = outbox.dropped, 0
            return [problem("MESSAGES_DROPPED", f"{dropped} notices were dropped: this client reads too slowly")]
        control = outbox.take_control()
        if control is not None:
            return [control]
        while ready := outbox.take_ready():
            key, cursor = ready
            stream = self._streams[key]
            if not stream.log.head or stream.log.is_done(cursor):
                continue
            step = stream.log.pull(cursor, newest=True) or self._pull_anew(stream, cursor)
            if step is None:
                continue  # its snapshot is on the way, and will mark it
            outbox.mark(key)
            words = stream.log.dictionary
            return [words, step.body] if cursor.needs(words) else [step.body]
        return []

    def _pull_anew(self, stream: Stream, cursor: Cursor) -> Step | None:
        """Ask for a snapshot: in process it is here once asked for. Else one that is a few steps old will do."""
        if stream.asked_s is None:
            self._ask(stream)
        return None if stream.log.is_done(cursor) else stream.log.pull(cursor)

    # -- topics of a client

    def admit(self, asked: object, user_id: int, *, is_admin: bool) -> Topic:
        """The topic, if there is such a one and that user may watch it.

        Raises:
            TopicInvalid, Forbidden, NotEntitled, InstrumentUnknown, ExpiryUnknown.
        """
        topic = parse_topic(asked)
        if topic.kind is Kind.WATCHLIST and not (is_admin or topic.user_id == user_id):
            raise Forbidden(f"user {user_id} may not watch the list of user {topic.user_id}")
        if topic.kind is not Kind.EVENTS:
            self._check(topic)
        if self._audience is not None:
            self._audience.require_topic(topic, user_id, is_admin=is_admin)
        return topic

    def _allowed(self, client: Client, asked: object) -> Topic:
        topic = self.admit(asked, client.user_id, is_admin=client.is_admin)
        if topic.name not in client.topics and len(client.topics) >= self._settings.topics_max:
            raise TooManyTopics(f"a client watches at most {self._settings.topics_max} topics")
        return topic

    def _subscribe(self, client: Client, asked: object, hz: int) -> None:
        topic = self._allowed(client, asked)
        if topic.name != asked:
            self._post(client, text(type="subscribed", asked=asked, topic=topic.name))
        if topic.kind is Kind.EVENTS:
            client.wants_events = True
        else:
            self._follow(client, StreamKey(topic.name, hz, client.format), Cursor())
            self._note_viewer(client, topic)

    def _follow(self, client: Client, key: StreamKey, cursor: Cursor) -> None:
        held = client.topics.get(key.topic)
        if held is not None and held != key:
            self._unfollow(client, key.topic)
        client.topics[key.topic] = key
        client.outbox.follow(key, cursor)
        stream = self._streams.get(key)
        if stream is None:
            stream = self._streams[key] = Stream(key)
            self._by_subject[key.subject] = stream
            if not self._wide:
                stream.reader = self._bus.subscribe(key.subject, self._deliver)
            stream.readers[client] = None
            self._tell(Op.ADD, [key])
        stream.readers[client] = None
        stream.idle_since_s = None
        client.wake()

    def _unfollow(self, client: Client, name: str) -> None:
        key = client.topics.pop(name)
        client.outbox.unfollow(key)
        stream = self._streams[key]
        del stream.readers[client]
        if not stream.readers:
            stream.idle_since_s = self._clock.monotonic()

    def _drop(self, key: StreamKey) -> None:
        stream = self._streams.pop(key)
        del self._by_subject[key.subject]
        if stream.reader is not None:
            stream.reader.close()
        self._tell(Op.DROP, [key])

    def _ask(self, stream: Stream) -> None:
        stream.asked_s = self._clock.monotonic()
        self._tell(Op.ASK, [stream.key])

    def _tell(self, op: Op, keys: Iterable[StreamKey], heads: Iterable[int] = (), shown: Iterable[str] = ()) -> None:
        self._bus.publish(WANT_SUBJECT, Want(self._name, op, tuple(keys), tuple(heads), tuple(shown)).pack())

    # -- deliveries

    def _deliver(self, subject: str, payload: bytes) -> None:
        stream = self._by_subject.get(subject)
        if stream is None:
            return
        try:
            stream.log.append(unpack_step(payload))
        except ValueError:
            self.malformed += 1
            return
        stream.asked_s = None if stream.log.has_fresh_snapshot else stream.asked_s
        for client in stream.readers:
            if client.outbox.mark(stream.key):
                client.wake()

    def _deliver_event(self, subject: str, payload: bytes) -> None:
        try:
            event = orjson.loads(payload)
            user_id = event["user_id"]
            message = text(type="event", **event)
        except (KeyError, TypeError, ValueError):
            self.malformed += 1
            return
        for client in self._clients:
            if self._is_for(client, user_id):
                self._post(client, message)

    def _is_for(self, client: Client, user_id: int | None) -> bool:
        if user_id is None:
            return client.wants_events
        if not client.may_see(user_id):
            return False
        own = f"{Kind.WATCHLIST}:{user_id}"
        return client.wants_events or any(name == own or name.startswith(f"{own}:") for name in client.topics)

    def _refuse(self, client: Client, refused: TerminalError, asked: object) -> None:
        shown = asked[:TOPIC_LENGTH_MAX] if isinstance(asked, str) else None  # in full: it tells which one is meant
        self._post(client, problem(refused.code, refused.detail, topic=shown, **refused.extra))

    def _post(self, client: Client, message: bytes) -> None:
        client.outbox.post(message)
        client.wake()
