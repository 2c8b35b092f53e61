"""The wire, byte by byte: golden packets, stacked and broken frames, commands."""

from __future__ import annotations

import json
from pathlib import Path
from struct import unpack_from

import numpy as np
import pytest

from app.core.errors import BadFrame
from app.core.ids import InstrumentKey, Mode, Segment
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
    utc_from_ltt,
)
from app.core.rows import ROW_DTYPE, offset_of
from app.dhan.codec import (
    FULL_DTYPE,
    QUOTE_DTYPE,
    TICKER_DTYPE,
    BadCommand,
    Bye,
    Subscribe,
    Unsubscribe,
    decode,
    encode_disconnect,
    encode_packet,
    encode_subscribe,
    encode_unsubscribe,
    packets,
    parse_command,
)

WIRE = Path(__file__).parent.parent / "fixtures" / "wire"
OPTION = InstrumentKey(Segment.NSE_FNO, 47317)
NO_LEVEL = DepthLevel(0, 0, 0, 0, 0.0, 0.0)
LTT = 1789379397


def f32(value: float) -> float:
    return float(np.float32(value))


def golden(name: str) -> bytes:
    return bytes.fromhex((WIRE / f"{name}.hex").read_text())


QUOTE_FIELDS = (f32(152.3), 75, LTT, f32(149.8), 1234500, 600100, 500200)
DAY_FIELDS = (140.0, f32(151.05), 160.5, 133.25)
LEVEL = DepthLevel(65, 130, 1, 2, 152.25, f32(152.35))

GOLDEN: dict[str, Packet] = {
    "ticker": Ticker(OPTION, f32(152.3), LTT),
    "prev_close": PrevClose(InstrumentKey(Segment.IDX_I, 13), f32(24876.35), 0),
    "quote": Quote(OPTION, *QUOTE_FIELDS, *DAY_FIELDS),
    "open_interest": OpenInterest(OPTION, 987650),
    "market_status": MarketStatus(InstrumentKey(Segment.NSE_EQ, 0)),
    "disconnect_805": Disconnect(805),
    "full": Full(OPTION, *QUOTE_FIELDS, 987650, 999999, 900000, *DAY_FIELDS, depth=(LEVEL, *[NO_LEVEL] * 4)),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_bytes_decode_to_their_values(name: str) -> None:
    assert decode(golden(name)) == [GOLDEN[name]]


@pytest.mark.parametrize("name", GOLDEN)
def test_values_encode_to_their_golden_bytes(name: str) -> None:
    assert encode_packet(GOLDEN[name]) == golden(name)


def test_a_real_capture_reads_as_its_owner_reported() -> None:
    # The head of a frame pasted in a public issue of the official SDK: Full, NSE_FNO 55796, 152.30, quantity 75.
    head = bytes.fromhex("08a20002f4d90000cd4c18434b00")
    (packet,) = decode(head.ljust(162, b"\0"))
    assert isinstance(packet, Full)
    assert (packet.key, packet.ltp, packet.ltq) == (InstrumentKey(Segment.NSE_FNO, 55796), f32(152.3), 75)


def test_last_trade_time_is_an_indian_wall_clock() -> None:
    (packet,) = decode(golden("ticker"))
    assert isinstance(packet, Ticker)
    assert utc_from_ltt(packet.ltt) == 1789359597  # 2026-09-14 09:49:57 +05:30


def test_stacked_packets_come_out_in_order() -> None:
    frame = b"".join(golden(name) for name in GOLDEN)
    assert decode(frame) == list(GOLDEN.values())
    assert decode(memoryview(frame)) == list(GOLDEN.values())


def test_an_empty_frame_holds_nothing() -> None:
    assert decode(b"") == []


def test_unknown_codes_and_segments_are_skipped_by_their_length() -> None:
    strange_code = bytes([99, 13, 0, 2, 1, 0, 0, 0]) + b"12345"
    strange_segment = bytes([2, 16, 0, 6, 1, 0, 0, 0]) + b"\0" * 8
    frame = strange_code + golden("ticker") + strange_segment + golden("open_interest")
    assert decode(frame) == [Unknown(99, 13), GOLDEN["ticker"], Unknown(2, 16), GOLDEN["open_interest"]]


@pytest.mark.parametrize("code", [0, 1, 3, 41, 51, 255])
def test_codes_without_a_documented_layout_are_unknown(code: int) -> None:
    packet = bytes([code, 16, 0, 0, 13, 0, 0, 0]) + b"\x01" * 8
    assert decode(packet) == [Unknown(code, 16)]


def test_a_longer_packet_than_documented_is_read_and_skipped_by_its_own_length() -> None:
    longer = bytearray(golden("ticker") + b"new!")
    longer[1] = 20
    assert decode(bytes(longer) + golden("open_interest")) == [GOLDEN["ticker"], GOLDEN["open_interest"]]


def broken(name: str, length: int) -> bytes:
    packet = bytearray(golden(name))
    packet[1:3] = length.to_bytes(2, "little")
    return bytes(packet)


@pytest.mark.parametrize(
    ("tail", "why"),
    [
        (b"\x08", "1 bytes after the last packet"),
        (b"\0" * 7, "7 bytes after the last packet"),
        (b"\0" * 8, "packet of 0 bytes where 8 are left"),
        (broken("ticker", 7), "packet of 7 bytes where 16 are left"),
        (broken("ticker", 17), "packet of 17 bytes where 16 are left"),
        (broken("ticker", 12), "packet 2 of 12 bytes, it takes 16"),
        (broken("full", 161), "packet 8 of 161 bytes, it takes 162"),
        (broken("quote", 65535), "packet of 65535 bytes where 50 are left"),
        (golden("full")[:100], "packet of 162 bytes where 100 are left"),
    ],
)
def test_packets_before_a_broken_one_are_kept_and_the_rest_refused(tail: bytes, why: str) -> None:
    before = golden("quote")
    found: list[Packet] = []
    with pytest.raises(BadFrame, match=why) as caught:
        found.extend(_into(found, before + tail))
    assert found == [GOLDEN["quote"]]
    assert caught.value.offset == len(before)


def _into(found: list[Packet], frame: bytes) -> list[Packet]:
    for packet in packets(frame):
        found.append(packet)  # noqa: PERF402 - what was found before the error must stay
    return []


def test_a_frame_of_lengths_zero_ends() -> None:
    with pytest.raises(BadFrame):
        decode(b"\0" * 4096)


def test_quantities_beyond_sixteen_bits_are_clamped() -> None:
    quote = GOLDEN["quote"]
    assert isinstance(quote, Quote)
    assert decode(encode_packet(quote._replace(ltq=70_000))) == [quote._replace(ltq=65_535)]


def test_an_unknown_packet_encodes_to_something_nobody_can_read() -> None:
    assert decode(encode_packet(Unknown(99, 40))) == [Unknown(99, 40)]
    assert decode(encode_packet(Unknown(2, 16))) == [Unknown(2, 16)]


@pytest.mark.parametrize(("dtype", "name"), [(TICKER_DTYPE, "ticker"), (QUOTE_DTYPE, "quote"), (FULL_DTYPE, "full")])
def test_packet_images_agree_with_the_codec(dtype: np.dtype[np.void], name: str) -> None:
    image = np.frombuffer(golden(name), dtype=dtype)[0]
    assert len(golden(name)) == dtype.itemsize == image["length"]
    packet = GOLDEN[name]
    for field, value in packet._asdict().items():
        if field == "depth":
            assert tuple(image["depth"][0]) == LEVEL
        elif field != "key":
            assert image[field] == value, field


def test_a_board_row_is_the_image_of_a_full_packet() -> None:
    image = np.frombuffer(golden("full").ljust(256, b"\0"), dtype=ROW_DTYPE)[0]
    assert (image["oi"], image["open"], image["low"]) == (987650, 140.0, 133.25)
    assert tuple(image["depth"][0]) == LEVEL
    assert unpack_from("<I", golden("full"), offset_of("ltt")) == (LTT,)


# --- commands ---------------------------------------------------------------------------------------------------------

NIFTY = InstrumentKey(Segment.IDX_I, 13)


def test_a_subscribe_is_what_dhan_documents() -> None:
    text = encode_subscribe([OPTION, NIFTY], Mode.FULL)
    assert json.loads(text) == {
        "RequestCode": 21,
        "InstrumentCount": 2,
        "InstrumentList": [
            {"ExchangeSegment": "NSE_FNO", "SecurityId": "47317"},
            {"ExchangeSegment": "IDX_I", "SecurityId": "13"},
        ],
    }


@pytest.mark.parametrize(
    ("mode", "subscribe", "unsubscribe"), [("TICKER", 15, 16), ("QUOTE", 17, 18), ("FULL", 21, 22)]
)
def test_modes_have_their_request_codes(mode: str, subscribe: int, unsubscribe: int) -> None:
    assert json.loads(encode_subscribe([NIFTY], Mode[mode]))["RequestCode"] == subscribe
    assert json.loads(encode_unsubscribe([NIFTY], Mode[mode]))["RequestCode"] == unsubscribe


@pytest.mark.parametrize("mode", list(Mode))
def test_commands_parse_back(mode: Mode) -> None:
    keys = tuple(InstrumentKey(segment, 7 + segment) for segment in Segment)
    assert parse_command(encode_subscribe(keys, mode)) == Subscribe(mode, keys)
    assert parse_command(encode_unsubscribe(keys, mode)) == Unsubscribe(mode, keys)
    assert parse_command(encode_disconnect()) == Bye()


@pytest.mark.parametrize("count", [0, 101])
def test_a_message_carries_one_to_a_hundred(count: int) -> None:
    keys = [InstrumentKey(Segment.NSE_FNO, n) for n in range(count)]
    with pytest.raises(ValueError, match=f"{count} instruments"):
        encode_subscribe(keys, Mode.FULL)


def test_a_hundred_fit() -> None:
    keys = tuple(InstrumentKey(Segment.NSE_FNO, 4_294_967_295 - n) for n in range(100))
    assert parse_command(encode_subscribe(keys, Mode.FULL)) == Subscribe(Mode.FULL, keys)


ONE = {"ExchangeSegment": "NSE_EQ", "SecurityId": "1"}


def request(**changed: object) -> str:
    return json.dumps({"RequestCode": 15, "InstrumentCount": 1, "InstrumentList": [ONE]} | changed)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ('"\ud800"', "not JSON"),
        ("[" * 60_000, "not JSON"),
        ("9" * 70_000, "characters"),
        ("[]", "not an object"),
        ("{}", "RequestCode is not an integer"),
        (request(RequestCode=True), "RequestCode is not an integer"),
        (request(RequestCode="15"), "RequestCode is not an integer"),
        (request(RequestCode=19), "RequestCode 19"),
        (request(RequestCode=23), "RequestCode 23"),
        (request(InstrumentList=None), "InstrumentList is not a list"),
        (request(InstrumentCount=2), "InstrumentCount"),
        (request(InstrumentCount=True), "InstrumentCount"),
        (request(InstrumentCount=0, InstrumentList=[]), "0 instruments"),
        (request(InstrumentCount=101, InstrumentList=[ONE] * 101), "101 instruments"),
        (request(InstrumentList=["NSE_EQ"]), "not an object"),
        (request(InstrumentList=[ONE | {"ExchangeSegment": "NSE"}]), "ExchangeSegment"),
        (request(InstrumentList=[ONE | {"ExchangeSegment": 1}]), "ExchangeSegment"),
        (request(InstrumentList=[ONE | {"SecurityId": 1}]), "SecurityId is not a string"),
        (request(InstrumentList=[ONE | {"SecurityId": "-1"}]), "SecurityId is not a string"),
        (request(InstrumentList=[ONE | {"SecurityId": "१३"}]), "SecurityId is not a string"),
        (request(InstrumentList=[ONE | {"SecurityId": "4294967296"}]), "32 bits"),
    ],
)
def test_hostile_text_is_refused_with_a_reason(text: str, why: str) -> None:
    with pytest.raises(BadCommand, match=why):
        parse_command(text)
