"""From packets to messages: cadence, what changed, and what silence changes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import date

import pytest

from app.core.errors import ExpiryUnknown
from app.market.live_prices import KNOWN_AFTER
from app.market.states import InstrumentState
from app.stream import publisher
from app.stream.fields import ROW_FIELDS
from app.stream.topics import Format, StreamKey
from tests.stream_world import DAY, FUTURE, NIFTY, NIFTY_CHAIN, RELIANCE, World

CHAIN = "chain:NIFTY:26FEB2026"


@pytest.fixture
async def world() -> World:
    return await World.opened()


def quoted(world: World) -> World:
    """NIFTY at 25,020 with five strikes of both sides subscribed and quoted."""
    legs = [world.leg(strike, side) for strike in (24900, 24950, 25000, 25050, 25100) for side in ("CE", "PE")]
    world.books.subscribe(NIFTY, RELIANCE, FUTURE, *legs)
    world.tick(NIFTY, 25_020.35)
    world.previous_close(NIFTY, 24_900.0)
    for leg in legs:
        assert leg.strike is not None
        inner = max(0.0, (25_020 - leg.strike) * (1 if leg.option_type == "CE" else -1))
        world.tick(leg, inner + 80.0, oi=2_000 if leg.option_type == "PE" else 1_000)
    return world


async def test_snapshot_then_only_what_changed(world: World) -> None:
    world.books.subscribe(RELIANCE)
    world.tick(RELIANCE, 2641.5, close=2600.0)
    reader = world.join()
    reader.watch("quotes:RELIANCE_EQ")
    (first,) = reader.read()
    assert (first["type"], first["topic"], set(first["data"])) == (
        "snapshot", "quotes:RELIANCE_EQ", {"rows", "instruments"},
    )  # fmt: skip
    row = first["data"]["rows"]["RELIANCE_EQ"]
    assert tuple(row) == ROW_FIELDS
    assert (row["ltp"], row["change"], row["state"], row["oi"], row["iv"]) == (2641.5, 41.5, "LIVE", None, None)
    assert isinstance(row["volume"], int)
    world.tick(RELIANCE, 2642.0, close=2600.0, volume=11)
    world.round()
    (delta,) = reader.read()
    assert (delta["type"], delta["seq"]) == ("delta", first["seq"] + 1)
    cells = delta["data"]["rows"]["RELIANCE_EQ"]
    assert {"ltp", "change", "volume", "bid", "ask"} <= set(cells)
    assert not {"prev_close", "state", "total_buy_qty", "ltq"} & set(cells)


async def test_nothing_is_sent_while_nothing_changes(world: World) -> None:
    world.books.subscribe(RELIANCE)
    world.tick(RELIANCE, 2641.5)
    reader = world.join()
    reader.watch("quotes:RELIANCE_EQ")
    world.round()
    reader.read()
    world.round(5)
    assert reader.read() == []
    world.tick(NIFTY, 25_000.0)
    world.round()
    assert reader.read() == []


async def test_silence_changes_state_and_age_without_a_tick(world: World) -> None:
    world.books.subscribe(RELIANCE)
    world.tick(RELIANCE, 2641.5)
    reader = world.join()
    reader.watch("quotes:RELIANCE_EQ")
    reader.read()
    told = []
    for _ in range(60):
        world.round()
        told += [message["data"]["rows"]["RELIANCE_EQ"] for message in reader.read()]
    assert {name for cells in told for name in cells} == {"age_ms", "state"}
    assert any(cells.get("state") == InstrumentState.QUIET for cells in told)
    ages = [cells["age_ms"] for cells in told if "age_ms" in cells]
    assert ages == sorted(ages)
    assert ages[-1] >= 5_000


async def test_chain_shows_every_leg_of_its_window_and_what_it_says_as_a_whole(world: World) -> None:
    reader = quoted(world).join()
    reader.watch(CHAIN)
    (first,) = reader.read()
    data = first["data"]
    assert len(data["rows"]) == 202
    assert data["rows"]["NIFTY_26FEB2026_25000CE"]["state"] == "LIVE"
    far = data["rows"]["NIFTY_26FEB2026_26000CE"]
    assert (far["state"], far["ltp"], far["iv"]) == ("NOT_SUBSCRIBED", None, None)
    near = data["rows"]["NIFTY_26FEB2026_25000CE"]
    assert 5 < near["iv"] < 60
    assert 0.3 < near["delta"] < 0.8
    summary = data["summary"]
    assert (summary["underlying_ltp"], summary["underlying_source"], summary["atm_strike"]) == (
        25_020.35,
        "live",
        25_000,
    )
    assert (summary["pcr"], summary["total_ce_oi"], summary["total_pe_oi"]) == (2.0, 5_000, 10_000)
    assert summary["straddle"] == pytest.approx(180.0)
    assert summary["atm_iv"] == near["iv"]
    coverage = data["coverage"]
    assert (coverage["legs"], coverage["live"], coverage["not_subscribed"]) == (202, 10, 192)
    assert data["instruments"]["NIFTY_26FEB2026_25000CE"]["strike"] == 25_000


async def test_summary_tells_the_future_and_when_trading_ends(world: World) -> None:
    reader = quoted(world).join()
    reader.watch(CHAIN)
    (first,) = reader.read()
    summary = first["data"]["summary"]
    assert (summary["future"], summary["future_ltp"], summary["basis"]) == (FUTURE.token, None, None)
    assert (summary["lot_size"], summary["days_left"], summary["session"]) == (75, 1, "OPEN")
    assert summary["expiry_ms"] > world.clock.now_ms()
    world.tick(FUTURE, 25_061.4, oi=900, close=25_000.0)
    world.round()
    summary = reader.read()[-1]["data"]["summary"]
    assert (summary["future_ltp"], summary["basis"]) == (25_061.4, pytest.approx(41.05))
    assert summary["future_change_pct"] == pytest.approx(0.25, abs=0.01)
    assert "future_buildup" not in summary, "no earlier open interest is known: nothing is said"


async def test_a_chain_without_a_future_of_its_expiry_shows_the_nearest(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = replace(FUTURE, token="NIFTY_30MAR2026_FUT", expiry=date(2026, 3, 30))
    monkeypatch.setattr(world.listing, "futures", lambda symbol, exchange=None: [later])
    legs = world.view.legs(NIFTY_CHAIN)
    assert legs.future is None, "the forward of the options is not measured against another expiry's future"
    assert legs.shown_future == later


async def test_options_that_settle_into_a_future_are_measured_against_that_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MCX: the options end days before their future, and the nearest future may be one of an earlier month."""
    nearest = replace(FUTURE, key=FUTURE.key._replace(security_id=9_001), token="NIFTY_20FEB2026_FUT")
    own = replace(FUTURE, token="NIFTY_19MAR2026_FUT", expiry=date(2026, 3, 19))
    monkeypatch.setattr(world.listing, "futures", lambda symbol, exchange=None: [nearest, own])
    monkeypatch.setattr(world.listing, "spot_of", lambda symbol, expiry, exchange=None: own)
    world.books.subscribe(nearest, own)
    world.tick(nearest, 24_000.0)
    world.tick(own, 25_020.0)
    reader = world.join()
    reader.watch(CHAIN)
    summary = reader.read()[0]["data"]["summary"]
    assert (summary["underlying"], summary["future"], summary["basis"]) == (own.token, own.token, 0.0)
    assert summary["forward"] == 25_020.0, "a future's price does not grow until expiry"


async def test_showing_subscribes_nothing(world: World) -> None:
    before = len(world.prices)
    world.join().watch(CHAIN, "quotes:RELIANCE_EQ,NIFTY_IDX", "depth:RELIANCE_EQ")
    world.round(20)
    assert (len(world.prices), world.books.owned) == (before, set())


async def test_spot_unknown_shows_the_whole_ladder_and_no_guess(world: World) -> None:
    reader = world.join()
    reader.watch(CHAIN)
    (first,) = reader.read()
    assert len(first["data"]["rows"]) == 401  # 201 strikes, one put not listed
    assert first["data"]["coverage"]["missing"] == 1
    known = {name: value for name, value in first["data"]["summary"].items() if value is not None}
    listed = {"underlying", "future", "lot_size", "expiry_ms", "days_left", "session"}
    assert known.keys() == listed, "only what the master and the calendar tell"


async def test_coverage_tells_never_traded_and_stale(world: World) -> None:
    quoted(world)
    world.books.subscribe(world.leg(25_200))
    reader = world.join()
    reader.watch(CHAIN)
    assert reader.read()[0]["data"]["coverage"]["never_traded"] == 1
    for _ in range(2 * KNOWN_AFTER):  # by then it is known how often each comes
        for strike in (24_900, 24_950, 25_000, 25_050, 25_100):
            for side in ("CE", "PE"):
                world.tick(world.leg(strike, side), 100.0)
        world.round(10)
    for _ in range(40):
        world.tick(world.leg(25_000), 100.0)  # the segment lives
        world.round(10)
    stale = [
        message["data"]["coverage"]["stale"]
        for message in reader.read()
        if "stale" in message["data"].get("coverage", {})
    ]
    assert stale[-1] == 9


async def test_window_move_is_a_snapshot_with_the_next_number(world: World) -> None:
    reader = quoted(world).join()
    reader.watch(CHAIN)
    (first,) = reader.read()
    world.engine.centre(NIFTY_CHAIN, 25_520.0)
    world.round()
    moved = reader.read()
    assert [(message["type"], message["seq"]) for message in moved] == [("snapshot", first["seq"] + 1)]
    strikes = {about["strike"] for about in moved[0]["data"]["instruments"].values()}
    assert (min(strikes), max(strikes)) == (23_000, 28_000)


async def test_depth_is_the_book_and_changes_with_it(world: World) -> None:
    world.books.subscribe(RELIANCE)
    reader = world.join()
    reader.watch("depth:RELIANCE_EQ")
    (first,) = reader.read()
    assert first["data"] == {"bids": [], "asks": [], "state": "SENT"}
    world.tick(RELIANCE, 2641.5)
    world.round()
    (delta,) = reader.read()
    assert delta["data"] == {
        "bids": [{"price": 2641.45, "qty": 65, "orders": 1}],
        "asks": [{"price": 2641.55, "qty": 130, "orders": 2}],
        "state": "LIVE",
    }


async def test_status_sends_the_members_that_differ(world: World) -> None:
    reader = world.join()
    reader.watch("status")
    assert reader.read()[0]["data"] == {"subscriptions": {"total_subscriptions": 0}}
    world.status = {"subscriptions": {"total_subscriptions": 50}, "websocket": {"ws_1": 50}}
    world.round(11)
    (delta,) = reader.read()
    assert delta["data"] == {"subscriptions": {"total_subscriptions": 50}, "websocket": {"ws_1": 50}}


async def test_watchlist_follows_the_list(world: World) -> None:
    world.lists[7] = {RELIANCE.token: RELIANCE}
    reader = world.join(7, is_admin=False)
    reader.watch("watchlist:7")
    assert list(reader.read()[0]["data"]["rows"]) == ["RELIANCE_EQ"]
    leg = world.leg(25_000)
    world.lists[7] = {RELIANCE.token: RELIANCE, leg.token: leg}
    world.round(11)
    (again,) = reader.read()
    assert (again["type"], list(again["data"]["rows"])) == ("snapshot", ["RELIANCE_EQ", leg.token])


async def test_rate_classes_are_sequences_of_their_own(world: World) -> None:
    world.books.subscribe(RELIANCE)
    fast, slow = world.join(), world.join()
    fast.watch("quotes:RELIANCE_EQ", hz=10)
    slow.watch("quotes:RELIANCE_EQ", hz=1.9)
    seqs = {reader.read()[0]["seq"] for reader in (fast, slow)}
    for place in range(20):
        world.tick(RELIANCE, 2600.0 + place)
        world.round()
        fast.raw.clear()
    quick, late = fast.read(), slow.read()
    assert len(seqs) == 2
    assert len(late) == 2
    assert late[-1]["data"]["rows"]["RELIANCE_EQ"]["ltp"] > 2600.0
    assert quick[-1]["data"]["rows"]["RELIANCE_EQ"]["ltp"] == 2619.0


async def test_each_message_is_encoded_once_for_all(world: World) -> None:
    world.books.subscribe(RELIANCE)
    readers = [world.join() for _ in range(50)]
    for reader in readers:
        reader.watch("quotes:RELIANCE_EQ")
        reader.read()
    before = world.publisher.messages
    world.tick(RELIANCE, 2641.5)
    world.round()
    assert world.publisher.messages == before + 1
    assert all(len(reader.read()) == 1 for reader in readers)


async def test_topic_is_closed_after_the_last_reader_and_its_linger(world: World) -> None:
    reader = quoted(world).join()
    reader.watch(CHAIN, "quotes:RELIANCE_EQ")
    assert (world.publisher.open_topics, len(world.face)) == (2, 205)
    world.hub.leave(reader.client)
    world.clock.at_ms += 30_000
    world.hub.beat()
    assert (world.publisher.open_topics, len(world.face), world.hub.streams) == (0, 0, 0)


async def test_numbers_are_not_used_twice_by_a_topic_opened_again(world: World) -> None:
    reader = world.join()
    reader.watch("status")
    first = reader.read()[0]["seq"]
    world.hub.leave(reader.client)
    world.clock.at_ms += 31_000
    world.hub.beat()
    again = world.join()
    again.watch("status")
    assert again.read()[0]["seq"] > first


async def test_silent_hub_is_forgotten(world: World) -> None:
    world.join().watch("status")
    world.round(120)
    assert world.publisher.open_topics == 0


@pytest.mark.parametrize("lost", ["the first message", "a change", "a change, and what makes up for it"])
async def test_a_lost_message_that_nothing_follows_is_made_up_for(world: World, lost: str) -> None:
    world.books.subscribe(RELIANCE)
    world.tick(RELIANCE, 2641.5)
    reader, key = world.join(), StreamKey("quotes:RELIANCE_EQ", 10, Format.JSON)
    if lost == "the first message":
        world.bus.lose_next(key.subject)
        reader.watch(key.topic)
    else:
        reader.watch(key.topic)
        reader.read()
        world.bus.lose_next(key.subject)
        world.tick(RELIANCE, 2650.0)
        world.round()
    if lost == "a change, and what makes up for it":
        world.clock.at_ms += 1_000
        world.bus.lose_next(key.subject)
        world.hub.beat()
    assert reader.read() == []
    world.clock.at_ms += 1_000
    world.hub.beat()
    (told,) = reader.read()
    assert told["type"] == "snapshot"
    assert told["data"]["rows"]["RELIANCE_EQ"]["ltp"] == (2641.5 if lost == "the first message" else 2650.0)
    world.hub.beat()
    assert reader.read() == []


async def test_what_may_still_be_on_its_way_is_not_told_twice(world: World) -> None:
    world.books.subscribe(RELIANCE)
    reader, key = world.join(), StreamKey("quotes:RELIANCE_EQ", 10, Format.JSON)
    reader.watch(key.topic)
    reader.read()
    world.bus.lose_next(key.subject)
    world.tick(RELIANCE, 2650.0)
    world.round()
    world.hub.beat()
    assert reader.read() == []
    world.tick(RELIANCE, 2651.0)
    world.round()
    assert [message["type"] for message in reader.read()] == ["snapshot"]


async def test_chains_on_screens_are_told(world: World) -> None:
    world.join().watch(CHAIN, "quotes:NIFTY_IDX")
    world.hub.beat()
    world.round(11)
    assert set(world.shown) == {NIFTY_CHAIN}
    assert world.lists_shown == []


async def test_lists_on_screens_are_told(world: World) -> None:
    world.join().watch("watchlist:1")
    world.hub.beat()
    world.round(11)
    assert set(world.lists_shown) == {1}
    assert world.shown == []


async def test_a_chain_that_is_listed_no_longer_is_on_no_screen(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.join().watch(CHAIN)
    world.hub.beat()

    def gone(*_: object) -> None:
        raise ExpiryUnknown("a new master does not list it", valid=[])

    monkeypatch.setattr(world.engine, "chain_id", gone)
    world.round(11)
    assert world.shown == []


async def test_demand_that_is_no_demand_is_counted(world: World) -> None:
    for payload in (
        b"",
        b"[]",
        b'{"hub":"x","op":"add","keys":[["status",3,"json"]],"heads":[],"shown":[]}',
        b"\xff",
        b'{"hub":"x","op":"all","keys":[],"heads":[7],"shown":[]}',
    ):
        world.bus.publish("want.stream", payload)
    world.bus.publish(
        "want.stream", b'{"hub":"x","op":"add","keys":[["quotes:NOBODY",5,"json"]],"heads":[],"shown":[]}'
    )
    assert world.publisher.refused == 6
    assert world.publisher.open_topics == 0


async def test_greeks_of_a_quoted_option_come_with_its_chain(world: World) -> None:
    quoted(world)
    reader = world.join()
    reader.watch(f"quotes:NIFTY_{DAY:%d}FEB2026_25000PE")
    row = reader.read()[0]["data"]["rows"]["NIFTY_26FEB2026_25000PE"]
    assert row["iv"] is not None
    assert row["delta"] < 0


async def test_rounds_that_came_too_late_are_counted_as_missed(world: World) -> None:
    running = asyncio.create_task(world.publisher.run())
    await asyncio.sleep(0)  # the first round
    world.clock.at_ms += 450  # the second was due at 100 ms and ends at 450: those of 200 and 300 are left out
    async with asyncio.timeout(5):
        while not world.publisher.missed_rounds:  # noqa: ASYNC110 - the publisher tells nobody
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait([running])
    assert world.publisher.missed_rounds == 2


async def test_a_packet_of_a_round_under_way_leaves_with_what_is_still_to_come(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "ROWS_TOGETHER", 1)
    reader = quoted(world).join()
    reader.watch("quotes:RELIANCE_EQ", CHAIN)
    reader.read()
    steps = world.publisher.round()
    while not (told := reader.read()):
        world.tick(RELIANCE, 2642.0, volume=20)
        next(steps)
    assert [message["topic"] for message in told] == ["quotes:RELIANCE_EQ"]
    world.tick(RELIANCE, 2643.0, volume=30)
    world.tick(world.leg(25_000), 111.0, volume=30)
    for _ in steps:
        pass
    told = reader.read()
    assert [message["topic"] for message in told] == [CHAIN], "a topic leaves once a round"
    assert told[0]["data"]["rows"]["NIFTY_26FEB2026_25000CE"]["ltp"] == 111.0
    world.round()
    assert [message["data"]["rows"]["RELIANCE_EQ"]["ltp"] for message in reader.read()] == [2643.0]


async def test_a_topic_opened_while_a_round_is_under_way_misses_nothing_of_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "ROWS_TOGETHER", 1)
    first, second = quoted(world).join(), world.join()
    first.watch("quotes:RELIANCE_EQ", CHAIN)
    first.read()
    world.tick(RELIANCE, 2642.0, volume=20)
    world.tick(world.leg(25_000), 111.0, volume=30)
    steps = world.publisher.round()
    while not first.read():
        next(steps)
    second.watch("quotes:NIFTY_26FEB2026_25000CE")
    prices = [message["data"]["rows"]["NIFTY_26FEB2026_25000CE"]["ltp"] for message in second.read()]
    assert prices == [100.0], "the chain is not made yet"
    for _ in steps:
        pass
    world.round()
    prices = [message["data"]["rows"]["NIFTY_26FEB2026_25000CE"]["ltp"] for message in second.read()]
    assert prices == [111.0]


async def test_a_list_with_legs_of_one_chain_lets_go_of_it(world: World) -> None:
    reader = quoted(world).join()
    reader.watch("quotes:NIFTY_26FEB2026_25000CE,NIFTY_26FEB2026_25000PE")
    assert len(world.face) > 2
    world.hub.leave(reader.client)
    world.clock.at_ms += 30_000
    world.hub.beat()
    assert (world.publisher.open_topics, len(world.face)) == (0, 0)


async def test_whoever_comes_back_sees_every_packet_again(world: World) -> None:
    quoted(world)
    names = ("quotes:RELIANCE_EQ", "quotes:NIFTY_IDX")
    for times in (1, 2):  # rows that were let go are taken by others
        reader = world.join()
        for name in names:
            reader.watch(name)
        reader.read()
        world.tick(RELIANCE, 2650.0 + times, volume=20)
        world.tick(NIFTY, 25_030.0 + times)
        world.round()
        assert {message["topic"] for message in reader.read()} == set(names)
        world.hub.leave(reader.client)
        world.clock.at_ms += 30_000
        world.hub.beat()
