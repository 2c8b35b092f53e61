"""Clients of the hub: limits, rights, resuming, falling behind, notices."""

from __future__ import annotations

from typing import Any

import pytest

from app.market.events import Event
from app.stream.hub import HubSettings, TooManyClients
from app.stream.topics import TOPIC_LENGTH_MAX, Format, RateInvalid
from tests.binary_frames import read_frame
from tests.stream_world import RELIANCE, Mirror, World

QUOTE = "quotes:RELIANCE_EQ"


@pytest.fixture
async def world() -> World:
    made = World(HubSettings(topics_max=3, clients_max=4, shown_max=1))
    await made.bus.start()
    made.books.subscribe(RELIANCE)
    made.tick(RELIANCE, 2600.0)
    return made.start()


def ticks(world: World, count: int, start: float = 2601.0) -> None:
    for place in range(count):
        world.tick(RELIANCE, start + place)
        world.round()


async def test_errors_name_the_topic_and_leave_the_others_alone(world: World) -> None:
    reader = world.join()
    reader.watch("quotes:NOBODY", "chain:NIFTY:27FEB2026", QUOTE, "prices")
    told = reader.read()
    assert [(message["type"], message.get("code")) for message in told] == [
        ("error", "INSTRUMENT_UNKNOWN"), ("error", "EXPIRY_UNKNOWN"), ("error", "TOPIC_INVALID"), ("snapshot", None),
    ]  # fmt: skip
    assert told[1]["valid"] == ["26FEB2026"]
    assert told[0]["topic"] == "quotes:NOBODY"


async def test_other_spelling_is_answered_with_the_one_spelling(world: World) -> None:
    reader = world.join()
    reader.watch("quotes:reliance_eq")
    told = reader.read()
    assert told[0] == {"type": "subscribed", "asked": "quotes:reliance_eq", "topic": QUOTE}
    assert told[1]["topic"] == QUOTE


async def test_topics_and_clients_are_limited(world: World) -> None:
    reader = world.join()
    reader.watch("status", "events", QUOTE, "depth:RELIANCE_EQ", "quotes:NIFTY_IDX")
    assert [m["code"] for m in reader.read() if m["type"] == "error"] == ["TOO_MANY_TOPICS"]
    for _ in range(3):
        world.join()
    with pytest.raises(TooManyClients):
        world.join()
    world.hub.leave(reader.client)
    assert world.join().client.user_id == 1


async def test_rate_that_is_none_changes_nothing(world: World) -> None:
    reader = world.join()
    with pytest.raises(RateInvalid):
        world.hub.subscribe(reader.client, [QUOTE], "fast")
    assert reader.client.topics == {}


async def test_own_watchlist_only(world: World) -> None:
    mine = world.join(7, is_admin=False)
    mine.watch("watchlist:8", "watchlist:7")
    assert [(m["type"], m.get("code")) for m in mine.read()] == [("error", "FORBIDDEN"), ("snapshot", None)]
    admin = world.join(1)
    admin.watch("watchlist:7")
    assert admin.read()[0]["type"] == "snapshot"


async def test_subscribing_again_gives_the_whole_again(world: World) -> None:
    reader = world.join()
    reader.watch(QUOTE)
    first = reader.read()[0]
    reader.watch(QUOTE)
    assert [(m["type"], m["seq"]) for m in reader.read()] == [("snapshot", first["seq"])]
    assert world.hub.streams == 1


async def test_another_rate_replaces_the_first(world: World) -> None:
    reader = world.join()
    reader.watch(QUOTE, hz=10)
    reader.watch(QUOTE, hz=1)
    assert [key.hz for key in reader.client.topics.values()] == [1]
    assert [m["type"] for m in reader.read()] == ["snapshot"]


async def test_unsubscribed_topic_falls_silent(world: World) -> None:
    reader = world.join()
    reader.watch(QUOTE, "events")
    reader.read()
    world.hub.unsubscribe(reader.client, [QUOTE, "events", "status"])
    told = reader.read()
    assert told[0]["code"] == "NOT_SUBSCRIBED"
    assert told[1] == {"type": "unsubscribed", "topics": [QUOTE, "events"]}
    ticks(world, 3)
    world.publisher.notify(Event("session", 1, None, {}))
    assert reader.read() == []


async def test_reader_on_time_sees_every_step(world: World) -> None:
    reader = world.join()
    reader.watch(QUOTE)
    mirror = Mirror()
    for _ in range(30):
        ticks(world, 1, start=2600.0 + _)
        for message in reader.read():
            mirror.take(message)
    assert mirror.data["rows"]["RELIANCE_EQ"]["ltp"] == 2629.0


async def test_reader_that_fell_behind_gets_one_snapshot_and_goes_on(world: World) -> None:
    slow, quick = world.join(), world.join()
    for reader in (slow, quick):
        reader.watch(QUOTE)
        reader.read()
    seen = []
    for place in range(50):
        ticks(world, 1, start=2601.0 + place)
        seen += quick.read()
    (newest,) = slow.read()
    assert (newest["type"], newest["seq"]) == ("snapshot", seen[-1]["seq"])
    assert newest["data"]["rows"]["RELIANCE_EQ"]["ltp"] == 2650.0
    assert [message["type"] for message in seen] == ["delta"] * 50
    ticks(world, 1, start=2700.0)
    assert [(m["type"], m["seq"]) for m in slow.read()] == [("delta", newest["seq"] + 1)]


async def test_a_busy_topic_does_not_starve_the_others_of_a_slow_reader(world: World) -> None:
    """One message a round is all it takes, and each of three topics has news in every round."""
    world.books.subscribe(*(world.leg(25_000 + 50 * place) for place in range(20)))
    reader = world.join()
    reader.watch("chain:NIFTY:26FEB2026", QUOTE, "depth:RELIANCE_EQ")
    heard = []
    for place in range(30):
        world.tick(RELIANCE, 2601.0 + place)
        for leg in range(20):
            world.tick(world.leg(25_000 + 50 * leg), 100.0 + place)
        world.round()
        heard += [message["topic"] for message in reader.read(1)]
    assert {topic: heard.count(topic) for topic in set(heard)} == {
        "chain:NIFTY:26FEB2026": 10, QUOTE: 10, "depth:RELIANCE_EQ": 10,
    }  # fmt: skip


async def test_resume_gives_the_missing_steps(world: World) -> None:
    first = world.join()
    first.watch(QUOTE)
    mirror = Mirror()
    for message in first.read():
        mirror.take(message)
    world.hub.leave(first.client)
    ticks(world, 12)
    again = world.join()
    world.hub.resume(again.client, QUOTE, mirror.seq, 10)
    missed = again.read()
    assert [message["type"] for message in missed] == ["delta"] * len(missed)
    for message in missed:
        mirror.take(message)
    assert mirror.data["rows"]["RELIANCE_EQ"]["ltp"] == 2612.0


async def test_resume_finds_the_rate_its_number_belongs_to(world: World) -> None:
    first = world.join()
    first.watch(QUOTE, hz=10)
    seq = first.read()[0]["seq"]
    ticks(world, 2)
    again = world.join()
    world.hub.resume(again.client, QUOTE, seq)
    assert [message["seq"] for message in again.read()] == [seq + 1, seq + 2]


@pytest.mark.parametrize("seq", [0, 1, 10**15])
async def test_resume_of_an_unknown_number_gives_a_snapshot(world: World, seq: int) -> None:
    reader = world.join()
    world.hub.resume(reader.client, QUOTE, seq)
    assert [message["type"] for message in reader.read()] == ["snapshot"]


@pytest.mark.parametrize(("topic", "seq"), [(None, 1), (QUOTE, "1"), (QUOTE, -1), (QUOTE, True), ("watchlist:x", 1)])
async def test_resume_of_nonsense_is_an_error(world: World, topic: object, seq: object) -> None:
    reader = world.join()
    world.hub.resume(reader.client, topic, seq)
    assert [message["type"] for message in reader.read()] == ["error"]
    assert reader.client.topics == {}


async def test_notices_reach_those_they_concern(world: World) -> None:
    owner, watcher, stranger = (world.join(user, is_admin=False) for user in (7, 7, 8))
    admin = world.join()
    for reader in (owner, stranger, admin):
        reader.watch("events")
    watcher.watch("watchlist:7")
    watcher.read()
    world.publisher.notify(Event("evicted", 5, 7, {"symbol": "NIFTY", "reason": "room was needed"}))
    notice = {
        "type": "event", "kind": "evicted", "at_ms": 5, "user_id": 7,
        "data": {"symbol": "NIFTY", "reason": "room was needed"},
    }  # fmt: skip
    assert [reader.read() for reader in (owner, watcher, stranger, admin)] == [[notice], [notice], [], [notice]]
    world.publisher.notify(Event("eod", 6, None, {}))
    assert [len(reader.read()) for reader in (owner, watcher, stranger, admin)] == [1, 0, 1, 1]


async def test_notices_nobody_reads_are_bounded(world: World) -> None:
    reader = world.join()
    reader.watch("events")
    for number in range(1_000):
        world.publisher.notify(Event("feed", number, None, {}))
    told = reader.read()
    assert told[0]["code"] == "MESSAGES_DROPPED"
    assert (len(told), told[-1]["at_ms"]) == (257, 999)


async def test_newest_chains_of_a_client_count_as_shown(world: World) -> None:
    world.join().watch("chain:NIFTY:26FEB2026", "chain:RELIANCE:26FEB2026")
    assert world.hub.shown() == {"chain:RELIANCE:26FEB2026"}


async def test_screens_of_one_user_pin_a_bounded_number_of_chains_the_newest_of_each_first() -> None:
    world = World(HubSettings(shown_max=2, shown_per_user_max=2))
    await world.bus.start()
    world.start()
    for topics in (("watchlist:1", "chain:NIFTY:26FEB2026"), ("watchlist:2", "chain:RELIANCE:26FEB2026")):
        world.join().watch(*topics)
    assert world.hub.shown() == {"chain:NIFTY:26FEB2026", "chain:RELIANCE:26FEB2026"}
    world.join(user_id=2).watch("watchlist:2")
    assert world.hub.shown() == {"chain:NIFTY:26FEB2026", "chain:RELIANCE:26FEB2026", "watchlist:2"}


async def test_the_list_on_a_screen_counts_as_shown(world: World) -> None:
    world.join().watch("chain:NIFTY:26FEB2026", "quotes:NIFTY_IDX", "watchlist:1")
    assert world.hub.shown() == {"watchlist:1"}


async def test_binary_tells_the_same_as_json(world: World) -> None:
    plain, packed = world.join(), world.join(form=Format.BINARY)
    for reader in (plain, packed):
        reader.watch("chain:RELIANCE:26FEB2026")
    world.books.subscribe(*(world.leg(strike, side, "RELIANCE") for strike in (2600, 2620) for side in ("CE", "PE")))
    mirror = Mirror()
    rows: dict[str, Any] = {}
    doc: dict[str, Any] = {}
    dictionaries: list[dict[str, Any]] = []
    for place in range(25):
        for side in ("CE", "PE"):
            world.tick(world.leg(2600, side, "RELIANCE"), 40.0 + place / 20, oi=1_000 + place)
        world.tick(RELIANCE, 2605.0 + place / 10)
        world.round()
        for message in plain.read():
            mirror.take(message)
        dictionaries += packed.read()
        for raw in packed.raw:
            frame = read_frame(raw, dictionaries[-1])
            if frame.is_snapshot:
                rows, doc = frame.rows, frame.doc
            else:
                for token, cells in frame.rows.items():
                    rows[token].update(cells)
                for name, members in frame.doc.items():
                    doc[name] = {**doc[name], **members}
            assert frame.topic_id == dictionaries[-1]["id"]
        packed.raw.clear()
    assert [each["type"] for each in dictionaries] == ["dictionary"]
    assert doc == {"summary": mirror.data["summary"], "coverage": mirror.data["coverage"]}
    assert set(rows) == set(mirror.data["rows"])
    for token, row in mirror.data["rows"].items():
        for name, value in row.items():
            assert rows[token][name] == (pytest.approx(value, rel=1e-6) if isinstance(value, float) else value)


async def test_resumed_binary_reader_gets_its_dictionary_first(world: World) -> None:
    first = world.join(form=Format.BINARY)
    first.watch(QUOTE)
    (dictionary,) = first.read()
    seq = read_frame(first.raw[0], dictionary).seq
    world.hub.leave(first.client)
    ticks(world, 2)
    again = world.join(form=Format.BINARY)
    world.hub.resume(again.client, QUOTE, seq, 10)
    assert again.read() == [dictionary]
    assert [read_frame(raw, dictionary).is_snapshot for raw in again.raw] == [False, False]


async def test_bytes_from_the_bus_that_are_no_step_are_counted(world: World) -> None:
    reader = world.join()
    reader.watch(QUOTE)
    reader.read()
    world.bus.publish(next(iter(reader.client.topics.values())).subject, b"?")
    world.bus.publish("events", b"[]")
    world.bus.publish("events", b"{")
    assert world.hub.malformed == 3
    assert reader.read() == []


async def test_a_refusal_names_the_topic_as_it_was_asked_for(world: World) -> None:
    reader = world.join()
    asked = "quotes:" + ",".join(["NIFTY_IDX", *(f"UNLISTED{number}_EQ" for number in range(30))])
    reader.watch(asked)
    (error,) = reader.read()
    assert (error["code"], error["topic"]) == ("INSTRUMENT_UNKNOWN", asked)
    reader.watch("quotes:" + "X" * TOPIC_LENGTH_MAX)
    assert len(reader.read()[0]["topic"]) == TOPIC_LENGTH_MAX, "what is too long for a topic is cut"
