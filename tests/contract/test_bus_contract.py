"""One contract, two buses: in-process and NATS (a real nats-server on loopback); then what only NATS has to stand."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from app.bus import nats as nats_module
from app.bus.memory import MemoryBus
from app.bus.nats import NatsBus
from app.bus.subjects import covers
from app.ports.bus import Bus
from tests.contract.servers import NatsServer, free_port

Received = list[tuple[str, bytes]]


def into(received: Received) -> Callable[[str, bytes], None]:
    return lambda subject, payload: received.append((subject, payload))


async def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for something that must come; the limit is for a broken test, not a measure."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - what is waited for is other people's code
            await asyncio.sleep(0.005)


def nats_bus(server: NatsServer, **options: float) -> NatsBus:
    return NatsBus(server.url, random.Random(1), **options)  # type: ignore[arg-type]


@asynccontextmanager
async def running(bus: NatsBus) -> AsyncIterator[NatsBus]:
    await bus.start()
    try:
        yield bus
    finally:
        await bus.stop()


@pytest.fixture(params=["memory", "nats"])
def unstarted(request: pytest.FixtureRequest) -> Bus:
    if request.param == "memory":
        return MemoryBus()
    return nats_bus(request.getfixturevalue("nats_server"))


@pytest.fixture
async def bus(unstarted: Bus) -> AsyncIterator[Bus]:
    await unstarted.start()
    yield unstarted
    await unstarted.stop()


async def test_a_message_reaches_its_readers_as_it_was(bus: Bus) -> None:
    first: Received = []
    second: Received = []
    bus.subscribe("ticks.NIFTY", into(first))
    bus.subscribe("ticks.NIFTY", into(second))
    payloads = [b"", b"\x00\xff\r\n", b"MSG a 1 3\r\nabc\r\n", bytes(range(256)) * 64, b"x" * 900_000]
    for payload in payloads:
        bus.publish("ticks.NIFTY", payload)
    await until(lambda: len(first) == len(second) == len(payloads))
    assert first == second == [("ticks.NIFTY", payload) for payload in payloads]
    assert bus.dropped == 0


async def test_order_holds_within_a_subject(bus: Bus) -> None:
    received: Received = []
    bus.subscribe("ticks.>", into(received))
    for number in range(3_000):
        bus.publish(f"ticks.S{number % 3}", b"%d" % number)
    await until(lambda: len(received) == 3_000)
    for name in ("S0", "S1", "S2"):
        numbers = [int(payload) for subject, payload in received if subject == f"ticks.{name}"]
        assert numbers == list(range(int(name[1]), 3_000, 3))


async def test_a_reader_gets_what_it_asked_for_and_nothing_else(bus: Bus) -> None:
    below: Received = []
    exact: Received = []
    bus.subscribe("ticks.>", into(below))
    bus.subscribe("ticks.NIFTY", into(exact))
    subjects = ["ticks", "ticksX.NIFTY", "ticks.NIFTY", "ticks.NIFTY.26FEB2026", "ticks.NIFTYX", "status", "a.ticks.B"]
    for subject in subjects:
        bus.publish(subject, b"1")
    bus.publish("ticks.NIFTY", b"last")
    await until(lambda: (b"last" in [p for _, p in below]) and (b"last" in [p for _, p in exact]))
    assert [subject for subject, _ in below] == [
        "ticks.NIFTY",
        "ticks.NIFTY.26FEB2026",
        "ticks.NIFTYX",
        "ticks.NIFTY",
    ]
    assert exact == [("ticks.NIFTY", b"1"), ("ticks.NIFTY", b"last")]


async def test_a_closed_subscription_is_silent_at_once(bus: Bus) -> None:
    closed: Received = []
    open_: Received = []
    subscription = bus.subscribe("a.b", into(closed))
    bus.subscribe("a.b", into(open_))
    bus.publish("a.b", b"1")
    await until(lambda: len(open_) == 1 == len(closed))
    subscription.close()
    subscription.close()
    bus.publish("a.b", b"2")
    await until(lambda: len(open_) == 2)
    assert closed == [("a.b", b"1")]
    assert bus.dropped == 0


async def test_a_closed_reader_gets_not_even_what_was_on_its_way(bus: Bus) -> None:
    first: Received = []
    second: Received = []
    heard_at_close: list[int] = []

    def close_the_other(subject: str, payload: bytes) -> None:
        first.append((subject, payload))
        if len(first) == 10:
            other.close()
            heard_at_close.append(len(second))

    bus.subscribe("a.b", close_the_other)
    other = bus.subscribe("a.b", into(second))
    for number in range(100):  # on the way to both when the first reader closes the second
        bus.publish("a.b", b"%d" % number)
    await until(lambda: len(first) == 100)
    await asyncio.sleep(0.01)
    assert [len(second)] == heard_at_close


async def test_a_subscription_may_come_back(bus: Bus) -> None:
    received: Received = []
    bus.subscribe("a.b", into(received)).close()
    bus.subscribe("a.b", into(received))
    bus.publish("a.b", b"1")
    await until(lambda: received == [("a.b", b"1")])


async def test_nobody_listening_is_no_loss(bus: Bus) -> None:
    for _ in range(100):
        bus.publish("nobody.here", b"x")
    received: Received = []
    bus.subscribe("somebody", into(received))
    bus.publish("somebody", b"y")
    await until(lambda: len(received) == 1)
    assert bus.dropped == 0


async def test_a_reader_may_publish_and_order_stands_for_the_others(bus: Bus) -> None:
    received: Received = []

    def answer(subject: str, payload: bytes) -> None:
        if len(payload) < 5:
            bus.publish(subject, payload + b"+")

    bus.subscribe("echo", answer)
    bus.subscribe("echo", into(received))
    bus.publish("echo", b"")
    await until(lambda: len(received) == 6)
    assert [payload for _, payload in received] == [b"+" * n for n in range(6)]


async def test_a_reader_may_unsubscribe_itself_and_subscribe_others(bus: Bus) -> None:
    received: Received = []
    late: Received = []

    def first(subject: str, payload: bytes) -> None:
        received.append((subject, payload))
        subscription.close()
        bus.subscribe("x.y", into(late))

    subscription = bus.subscribe("x.y", first)
    bus.publish("x.y", b"1")
    await until(lambda: len(received) == 1)
    bus.publish("x.y", b"2")
    await until(lambda: b"2" in [payload for _, payload in late])
    assert received == [("x.y", b"1")]


async def test_a_stopped_bus_counts_what_it_is_given_and_starts_again(unstarted: Bus) -> None:
    received: Received = []
    unstarted.subscribe("a.>", into(received))
    unstarted.publish("a.b", b"too early")
    assert unstarted.dropped == 1
    await unstarted.start()
    unstarted.publish("a.b", b"1")
    await until(lambda: len(received) == 1)
    await unstarted.stop()
    await unstarted.stop()
    unstarted.publish("a.b", b"too late")
    assert unstarted.dropped == 2
    await unstarted.start()
    unstarted.publish("a.b", b"2")
    await until(lambda: len(received) == 2)
    await unstarted.stop()
    assert received == [("a.b", b"1"), ("a.b", b"2")]


async def test_the_memory_bus_delivers_before_publish_returns() -> None:
    bus = MemoryBus()
    await bus.start()
    received: Received = []
    bus.subscribe("a.>", into(received))
    bus.publish("a.b", b"1")
    assert received == [("a.b", b"1")]


async def test_the_memory_bus_bounds_what_readers_publish() -> None:
    bus = MemoryBus(waiting_max=10)
    await bus.start()
    received: Received = []

    def flood(subject: str, payload: bytes) -> None:
        if payload == b"go":
            for number in range(25):
                bus.publish("flood", b"%d" % number)

    bus.subscribe("flood", flood)
    bus.subscribe("flood", into(received))
    bus.publish("flood", b"go")
    assert [payload for _, payload in received] == [b"go", *(b"%d" % number for number in range(10))]
    assert bus.dropped == 15


@pytest.mark.parametrize(
    ("pattern", "subject", "expected"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.b.c", False),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        ("a.>", "a.", False),
        ("a.>", "ab.c", False),
        ("a.b.>", "a.b", False),
    ],
)
def test_subjects(pattern: str, subject: str, expected: bool) -> None:
    assert covers(pattern, subject) is expected


# --- what only a network can do -------------------------------------------------------------------------------------


async def test_two_processes_meet_on_the_server(nats_server: NatsServer) -> None:
    sender, reader = nats_bus(nats_server), nats_bus(nats_server)
    received: Received = []
    reader.subscribe("ticks.>", into(received))
    await sender.start()
    await reader.start()  # subscriptions stand when start returns
    for number in range(500):
        sender.publish("ticks.NIFTY", b"%d" % number)
    await until(lambda: len(received) == 500)
    assert [int(payload) for _, payload in received] == list(range(500))
    await sender.stop()
    await reader.stop()


async def test_a_stop_sends_what_was_published_before(nats_server: NatsServer) -> None:
    sender, reader = nats_bus(nats_server), nats_bus(nats_server)
    received: Received = []
    reader.subscribe("ticks.>", into(received))
    await reader.start()
    await sender.start()
    for number in range(2_000):
        sender.publish("ticks.NIFTY", b"%04d" % number * 100)
    await sender.stop()
    await until(lambda: len(received) == 2_000)
    assert sender.dropped == 0
    await reader.stop()


async def test_no_server_fails_the_start_and_tells_no_password() -> None:
    bus = NatsBus(f"nats://user:hunter2@127.0.0.1:{free_port()}", random.Random(1), start_s=0.5)
    with pytest.raises(ConnectionError, match=r"127\.0\.0\.1:\d+$") as failure:
        await bus.start()
    assert "hunter2" not in str(failure.value)
    bus.publish("a", b"x")
    assert bus.dropped == 1


async def test_a_server_that_says_nothing_fails_the_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        bus = NatsBus(f"nats://127.0.0.1:{mute.getsockname()[1]}", random.Random(1), start_s=0.5)
        with pytest.raises(ConnectionError):
            await bus.start()


async def test_the_bus_comes_back_with_its_subscriptions_when_the_server_does(nats_server: NatsServer) -> None:
    bus = nats_bus(nats_server)
    received: Received = []
    bus.subscribe("a.>", into(received))
    async with running(bus):
        for round_ in range(3):
            bus.publish("a.b", b"before %d" % round_)
            await until(lambda wanted=b"before %d" % round_: received[-1:] == [("a.b", wanted)])  # type: ignore[misc]
            nats_server.stop()
            await asyncio.sleep(0.05)
            late: Received = []
            subscription = bus.subscribe("late.>", into(late))
            nats_server.start()

            def probe(late: Received = late) -> bool:
                bus.publish("late.x", b"?")
                return bool(late)

            await until(probe)
            subscription.close()
        assert len(received) == 3


async def test_what_waits_for_an_absent_server_is_bounded_and_the_newest_is_kept(nats_server: NatsServer) -> None:
    bus = nats_bus(nats_server, messages_max=100)
    received: Received = []
    bus.subscribe("a.b", into(received))
    async with running(bus):
        nats_server.stop()
        await asyncio.sleep(0.2)  # the loss is noticed, so that nothing below goes into a dead socket
        for number in range(1_000):
            bus.publish("a.b", b"%d" % number)
        assert bus.waiting == 100
        assert bus.dropped == 900
        nats_server.start()
        await until(lambda: len(received) == 100)
        assert [int(payload) for _, payload in received] == list(range(900, 1_000))
        assert bus.dropped == 900


async def test_the_bound_counts_bytes_too(nats_server: NatsServer) -> None:
    bus = nats_bus(nats_server, bytes_max=1_000_000)
    async with running(bus):
        for _ in range(50):  # no await in between: nothing can leave
            bus.publish("a.b", bytes(100_000))
        assert bus.waiting == 10
        assert bus.dropped == 40


@pytest.mark.parametrize("size", [50_000, 1_000_000])  # the larger one fills the socket: nats-py's close would wait
async def test_a_frozen_server_never_blocks_and_what_is_given_up_is_counted(nats_server: NatsServer, size: int) -> None:
    bus = nats_bus(nats_server, bytes_max=2_000_000, confirm_s=1.0)
    received: Received = []
    bus.subscribe("a.b", into(received))
    async with running(bus):
        nats_server.freeze()
        for _ in range(40):
            for _ in range(10):
                bus.publish("a.b", bytes(size))
            await asyncio.sleep(0.05)
        assert bus.dropped > 0
        assert bus.waiting * size <= 2_000_000
        nats_server.thaw()

        def probe() -> bool:
            bus.publish("a.b", b"!")
            return bool(received) and received[-1][1] == b"!"

        await until(probe)


async def test_what_a_dead_server_never_confirmed_is_counted(nats_server: NatsServer) -> None:
    bus = nats_bus(nats_server, confirm_s=0.5)
    received: Received = []
    bus.subscribe("a.b", into(received))
    async with running(bus):
        nats_server.freeze()
        for number in range(5):
            bus.publish("a.b", b"%d" % number)
        await until(lambda: bus.dropped == 5)
        assert bus.waiting == 0
        nats_server.kill()
        nats_server.start()
        bus.publish("a.b", b"5")
        await until(lambda: len(received) == 1)
        assert received == [("a.b", b"5")]
        assert bus.dropped == 5


async def test_a_server_killed_under_load_leaves_nothing_behind(nats_server: NatsServer) -> None:
    bus = nats_bus(nats_server)
    received: Received = []
    bus.subscribe("a.>", into(received))
    async with running(bus):
        for _ in range(5):
            before = len(received)

            def storm(before: int = before) -> bool:
                for number in range(50):
                    bus.publish(f"a.{number}", bytes(20_000))
                return len(received) > before

            await until(storm)
            nats_server.kill()
            storm()
            await asyncio.sleep(0.02)
            storm()
            nats_server.start()
        await until(storm)


async def test_what_a_reader_cannot_take_in_is_counted(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_module, "INCOMING_MESSAGES_MAX", 10)
    bus = nats_bus(nats_server)
    received: Received = []
    bus.subscribe("a.b", into(received))
    async with running(bus):
        for number in range(3_000):
            bus.publish("a.b", b"%d" % number)
        await until(lambda: len(received) + bus.dropped == 3_000)
        assert bus.dropped > 0
        numbers = [int(payload) for _, payload in received]
        assert numbers == sorted(numbers)


async def test_a_message_beyond_the_servers_limit_is_dropped_alone(nats_server: NatsServer) -> None:
    bus = nats_bus(nats_server)
    received: Received = []
    bus.subscribe("a.b", into(received))
    async with running(bus):
        bus.publish("a.b", b"1")
        bus.publish("a.b", bytes(nats_server.max_payload + 1))
        bus.publish("", b"no subject")
        bus.publish("a\r\nPUB b 0\r\n", b"no such subject")
        bus.publish("a.b", b"2")
        await until(lambda: len(received) == 2)
        assert received == [("a.b", b"1"), ("a.b", b"2")]
        assert bus.dropped == 3


async def test_a_reader_that_raises_ends_the_owner_of_the_bus(nats_server: NatsServer) -> None:
    bus = nats_bus(nats_server)

    def broken(subject: str, payload: bytes) -> None:
        raise KeyError("a bug in a reader")

    async def own_the_bus() -> None:
        bus.subscribe("a.b", broken)
        await bus.start()
        try:
            bus.publish("a.b", b"1")
            await asyncio.Event().wait()
        finally:
            await bus.stop()

    with pytest.raises(ExceptionGroup) as failure:
        await asyncio.wait_for(own_the_bus(), 20)
    assert failure.value.subgroup(KeyError) is not None
