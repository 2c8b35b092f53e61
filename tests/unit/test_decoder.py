"""Frames to board rows: each rule by itself, then random streams against the slow board."""

from __future__ import annotations

import math
import random
from dataclasses import asdict

import numpy as np
import pytest

from app.core.ids import InstrumentKey, Segment
from app.core.packets import (
    DepthLevel,
    Disconnect,
    Full,
    MarketStatus,
    OpenInterest,
    Packet,
    PrevClose,
    Quote,
    Ticker,
    Unknown,
    ltt_from_utc,
)
from app.core.rows import Has
from app.dhan.codec import encode_packet
from app.ports.feed import LAG_BUCKET_MS, LAG_BUCKETS, NO_SOCKET, ConnectionCounters, TickBuffers
from tests.fixtures.boards import CONNECTIONS, NOW_MS, new_buffers, random_frame, reference_write, state_of
from tests.fixtures.decoders import DECODERS, WriteFrame

LTT = ltt_from_utc(NOW_MS / 1000)
FUTURE = InstrumentKey(Segment.NSE_FNO, 49543)
NIFTY = InstrumentKey(Segment.IDX_I, 13)
SLOT = 3
NIFTY_SLOT = 1
LEVELS = tuple(DepthLevel(10 + i, 20 + i, 1 + i, 2 + i, 99.5 - i, 100.5 + i) for i in range(5))
FULL = Full(FUTURE, 100.0, 75, LTT, 99.0, 5000, 600, 700, 42_000, 43_000, 41_000, 98.0, 97.5, 101.0, 96.0, depth=LEVELS)
QUOTE = Quote(FUTURE, 101.0, 25, LTT, 99.25, 5100, 610, 710, 98.5, 97.75, 102.0, 95.5)


class Board:
    """Buffers with two tracked instruments on connection 0, and one decoder."""

    def __init__(self, write_frame: WriteFrame) -> None:
        self.buffers = TickBuffers(slots=8, connections=2)
        self.buffers.slot_of.update({FUTURE.packed: SLOT, NIFTY.packed: NIFTY_SLOT})
        self.buffers.socket_of[SLOT] = self.buffers.socket_of[NIFTY_SLOT] = 0
        self._write_frame = write_frame

    def send(self, *packets: Packet, at_ms: int = NOW_MS, connection: int = 0) -> None:
        self.send_bytes(b"".join(map(encode_packet, packets)), at_ms=at_ms, connection=connection)

    def send_bytes(self, frame: bytes, *, at_ms: int = NOW_MS, connection: int = 0) -> None:
        self._write_frame(self.buffers, connection, frame, at_ms)

    @property
    def row(self) -> np.void:
        return self.buffers.table[SLOT]

    def counters(self, connection: int = 0) -> ConnectionCounters:
        return self.buffers.counters[connection]

    def has(self, slot: int = SLOT) -> Has:
        return Has(int(self.buffers.table[slot]["has"]))


@pytest.fixture(params=DECODERS)
def board(request: pytest.FixtureRequest) -> Board:
    return Board(DECODERS[request.param])


def test_full_fills_the_row(board: Board) -> None:
    board.send(FULL)
    for name, value in FULL._asdict().items():
        if name not in ("key", "depth"):
            assert board.row[name] == value, name
    assert [tuple(level) for level in board.row["depth"]] == list(LEVELS)
    assert board.has() == Has.TICKER | Has.QUOTE | Has.FULL | Has.OI
    assert list(board.buffers.dirty) == [0, 0, 0, 1, 0, 0, 0, 0]


def test_quote_moves_the_day_block_and_leaves_depth_and_oi(board: Board) -> None:
    board.send(FULL, QUOTE)
    for name, value in QUOTE._asdict().items():
        if name != "key":
            assert board.row[name] == value, name
    assert (board.row["oi"], board.row["oi_high"], tuple(board.row["depth"][4])) == (42_000, 43_000, LEVELS[4])


def test_quote_alone_claims_no_depth(board: Board) -> None:
    board.send(QUOTE)
    assert board.has() == Has.TICKER | Has.QUOTE


def test_ticker_patches_price_and_time(board: Board) -> None:
    board.send(FULL, Ticker(FUTURE, 103.5, LTT + 1))
    assert (board.row["ltp"], board.row["ltt"], board.row["ltq"], board.row["volume"]) == (103.5, LTT + 1, 75, 5000)


def test_oi_patches_oi(board: Board) -> None:
    board.send(QUOTE, OpenInterest(FUTURE, 55_555))
    assert board.row["oi"] == 55_555
    assert board.row["volume"] == 5100
    assert board.has() == Has.TICKER | Has.QUOTE | Has.OI


def test_previous_close_packets_always_count(board: Board) -> None:
    board.send(PrevClose(NIFTY, 24_800.5, 7))
    board.send(PrevClose(NIFTY, 24_801.5, 8))
    row = board.buffers.table[NIFTY_SLOT]
    assert (row["prev_close"], row["prev_oi"], board.has(NIFTY_SLOT)) == (24_801.5, 8, Has.PREV_CLOSE)


@pytest.mark.parametrize("price", [0.0, -1.0, math.inf, math.nan])
def test_a_previous_close_that_is_no_price_is_not_taken(board: Board, price: float) -> None:
    board.send(PrevClose(FUTURE, price, 9))
    assert (board.row["prev_close"], board.row["prev_oi"], board.has()) == (0.0, 9, Has(0))
    board.buffers.latching[Segment.NSE_FNO] = 1
    board.send(FULL._replace(close_raw=price))
    assert Has.PREV_CLOSE not in board.has()


def test_the_close_field_is_latched_once_and_only_in_session(board: Board) -> None:
    board.send(QUOTE)
    assert Has.PREV_CLOSE not in board.has()
    board.buffers.latching[Segment.NSE_FNO] = 1
    board.send(FULL._replace(volume=5100))
    assert (board.row["prev_close"], Has.PREV_CLOSE in board.has()) == (97.5, True)
    board.send(QUOTE._replace(close_raw=120.0))
    assert (board.row["prev_close"], board.row["close_raw"]) == (97.5, 120.0)
    board.send(PrevClose(FUTURE, 96.0, 0))
    assert board.row["prev_close"] == 96.0


def test_an_index_quote_with_close_zero_latches_nothing(board: Board) -> None:
    board.buffers.latching[Segment.IDX_I] = 1
    board.send(Quote(NIFTY, 24_850.0, 0, LTT, 0.0, 0, 0, 0, 24_800.0, 0.0, 24_900.0, 24_700.0))
    assert board.has(NIFTY_SLOT) == Has.TICKER | Has.QUOTE
    assert board.buffers.table[NIFTY_SLOT]["prev_close"] == 0.0


@pytest.mark.parametrize(
    "older",
    [
        FULL._replace(ltt=LTT - 1, volume=9999),
        FULL._replace(volume=4999),
        QUOTE._replace(volume=1),
        Ticker(FUTURE, 1.0, 5),
    ],
)
def test_an_older_state_changes_nothing(board: Board, older: Full | Quote | Ticker) -> None:
    if isinstance(older, Ticker):
        older = older._replace(ltt=LTT - 1)
    board.send(FULL)
    before = bytes(board.buffers.rows)
    board.buffers.dirty[SLOT] = 0
    board.send(older, at_ms=NOW_MS + 50)
    assert bytes(board.buffers.rows) == before
    assert (board.counters().superseded, board.counters().applied, board.buffers.dirty[SLOT]) == (1, 1, 0)


def test_an_equal_state_is_applied(board: Board) -> None:
    board.send(FULL, FULL._replace(total_buy_qty=1), Ticker(FUTURE, 100.5, LTT))
    assert (board.row["total_buy_qty"], board.row["ltp"], board.counters().applied) == (1, 100.5, 3)


def test_a_new_day_without_a_trade_is_not_older_than_yesterday(board: Board) -> None:
    board.send(FULL)
    morning = FULL._replace(volume=0, total_buy_qty=9)
    board.send(morning, at_ms=NOW_MS + 17 * 3_600_000)
    assert (board.row["volume"], board.row["total_buy_qty"], board.counters().superseded) == (0, 9, 0)


def test_a_row_without_time_and_volume_is_never_newer(board: Board) -> None:
    never = FULL._replace(ltp=0.0, ltt=0, volume=0)
    board.send(never, never._replace(total_buy_qty=5))
    assert (board.counters().applied, board.counters().bad_time, board.row["total_buy_qty"]) == (2, 0, 5)


def test_no_trade_yet_keeps_the_time_the_row_had(board: Board) -> None:
    board.send(FULL, FULL._replace(ltt=0, volume=0))
    assert (board.row["ltt"], board.row["volume"], board.counters().bad_time) == (LTT, 0, 0)


@pytest.mark.parametrize("ltt", [1, 315_532_800, 946_684_799, LTT + 121, LTT + 19_800, 2**32 - 1])
def test_an_impossible_time_is_counted_and_not_kept(board: Board, ltt: int) -> None:
    board.send(Ticker(FUTURE, 99.0, ltt))
    assert (board.row["ltp"], board.row["ltt"]) == (99.0, 0)
    board.send(FULL, QUOTE._replace(ltt=ltt), FULL._replace(ltt=ltt, ltp=77.0))
    assert (board.row["ltp"], board.row["ltt"]) == (77.0, LTT)
    assert (board.counters().bad_time, board.counters().applied) == (3, 4)


@pytest.mark.parametrize("ltt", [946_684_800, LTT + 120])
def test_the_edges_of_possible_time_are_kept(board: Board, ltt: int) -> None:
    board.send(Ticker(FUTURE, 99.0, ltt))
    assert (board.row["ltt"], board.counters().bad_time) == (ltt, 0)


def test_lag_is_told_of_new_trades_only(board: Board) -> None:
    board.send(FULL._replace(ltt=LTT - 3600))
    assert board.counters().last_lag_ms == 0  # the last trade before we came says nothing about the wire
    board.send(FULL, at_ms=NOW_MS + 1400)
    board.send(FULL, at_ms=NOW_MS + 9000)
    assert board.counters().last_lag_ms == 1400
    assert np.argwhere(board.buffers.lag_table).tolist() == [[0, 1400 // LAG_BUCKET_MS]]


def test_lags_beyond_the_histogram_are_kept_at_its_ends(board: Board) -> None:
    board.send(FULL._replace(ltt=LTT - 3600))
    for step, lag_ms in enumerate((-90_000, 0, 3_600_000), start=1):
        board.send(FULL._replace(ltt=LTT + step), at_ms=NOW_MS + step * 1000 + lag_ms, connection=0)
    counts = board.buffers.lag_table[0]
    assert (counts[0], counts[LAG_BUCKETS - 1], counts.sum()) == (2, 1, 3)


def test_packets_of_another_socket_are_foreign(board: Board) -> None:
    board.send(FULL, connection=1)
    assert (board.counters(1).foreign, board.counters(1).applied, board.has()) == (1, 0, Has(0))
    board.buffers.socket_of[SLOT] = NO_SOCKET
    board.send(FULL)
    assert (board.counters(0).foreign, board.has()) == (1, Has(0))


def test_a_packet_from_the_new_socket_completes_a_move(board: Board) -> None:
    board.buffers.moving_to[SLOT] = 1
    board.send(FULL)
    assert board.counters(0).applied == 1  # make before break: the old one still counts
    board.send(FULL._replace(ltt=LTT - 5), connection=1)
    assert (board.buffers.socket_of[SLOT], board.buffers.moving_to[SLOT]) == (1, NO_SOCKET)
    assert board.counters(1).superseded == 1
    board.send(FULL)
    assert board.counters(0).foreign == 1


def test_what_nobody_tracks_is_unwanted(board: Board) -> None:
    board.send(
        FULL._replace(key=InstrumentKey(Segment.NSE_EQ, 49543)), OpenInterest(InstrumentKey(Segment.MCX_COMM, 1), 5)
    )
    assert (board.counters().unwanted, board.counters().packets, any(board.buffers.dirty)) == (2, 2, False)


def test_ids_that_repeat_across_segments_do_not_meet(board: Board) -> None:
    twin = InstrumentKey(Segment.BSE_FNO, FUTURE.security_id)
    board.buffers.slot_of[twin.packed] = 7
    board.buffers.socket_of[7] = 0
    board.send(FULL, FULL._replace(key=twin, ltp=7.0))
    assert (board.row["ltp"], board.buffers.table[7]["ltp"]) == (100.0, 7.0)


def test_unknown_codes_and_segments_are_counted(board: Board) -> None:
    strange_status = bytes([7, 8, 0, 6, 0, 0, 0, 0])
    board.send(Unknown(1, 16), Unknown(99, 8), Unknown(8, 162), FULL, MarketStatus(NIFTY))
    board.send_bytes(strange_status)
    assert (board.counters().unknown, board.counters().packets, board.counters().applied) == (4, 6, 1)


def test_a_disconnect_packet_leaves_its_reason(board: Board) -> None:
    board.send(FULL, Disconnect(805), connection=0)
    assert board.buffers.disconnect_code == [805, 0]


def test_only_data_counts_as_data(board: Board) -> None:
    board.send(Unknown(0, 8), MarketStatus(NIFTY), Disconnect(800))
    assert board.counters().last_data_ms == 0
    board.send(Ticker(InstrumentKey(Segment.NSE_EQ, 1), 5.0, LTT))
    assert board.counters().last_data_ms == NOW_MS


def test_packets_before_a_broken_one_are_applied(board: Board) -> None:
    frame = encode_packet(FULL)
    short = frame[:1] + bytes([161]) + frame[2:161]
    board.send_bytes(frame + short + frame)
    board.send_bytes(frame + b"\x08\xa2\x00")
    board.send_bytes(b"\0" * 64)
    counters = board.counters()
    assert (counters.applied, counters.malformed, counters.frames, counters.packets) == (2, 3, 3, 2)
    assert counters.bytes == 162 + 161 + 162 + 165 + 64


def test_an_empty_frame_is_no_fault(board: Board) -> None:
    board.send_bytes(b"")
    assert state_of(board.buffers)["counters"] == [asdict(ConnectionCounters(frames=1)), asdict(ConnectionCounters())]


def test_a_row_knows_its_packets_and_its_pace(board: Board) -> None:
    board.send(FULL)
    assert (board.row["first_ms"], board.row["last_ms"], board.row["packets"]) == (NOW_MS, NOW_MS, 1)
    assert board.row["usual_gap_ms"] == 0.0
    board.send(FULL, at_ms=NOW_MS + 800)
    assert board.row["usual_gap_ms"] == 800.0
    board.send(OpenInterest(FUTURE, 1), at_ms=NOW_MS + 2400)
    assert board.row["usual_gap_ms"] == 900.0
    assert (board.row["first_ms"], board.row["last_ms"], board.row["packets"]) == (NOW_MS, NOW_MS + 2400, 3)


def test_nights_and_clock_steps_do_not_spoil_the_pace(board: Board) -> None:
    board.send(FULL)
    board.send(FULL, at_ms=NOW_MS + 17 * 3_600_000)
    assert board.row["usual_gap_ms"] == 600_000.0
    board.send(FULL, at_ms=NOW_MS)
    assert (board.row["usual_gap_ms"], board.row["last_ms"]) == (525_000.0, NOW_MS)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("seed", range(20))
def test_random_streams_leave_the_same_board_as_the_slow_one(decoder: str, seed: int) -> None:
    rng = random.Random(seed)
    slow, fast = new_buffers(random.Random(seed)), new_buffers(random.Random(seed))
    now_ms = NOW_MS
    for _ in range(400):
        now_ms += rng.choice((0, 1, 250, 900, 3_000, -500))
        connection, frame = rng.randrange(CONNECTIONS), random_frame(rng, now_ms)
        reference_write(slow, connection, frame, now_ms)
        DECODERS[decoder](fast, connection, frame, now_ms)
    assert state_of(fast) == state_of(slow)
    total = [sum(getattr(c, name) for c in slow.counters) for name in ("applied", "superseded", "foreign", "malformed")]
    assert all(total), "the stream must reach every branch"
