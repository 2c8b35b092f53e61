"""Whatever the bytes, only documented errors leave the codec; whatever the values, they come back."""

from __future__ import annotations

import json
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

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
)
from app.dhan.codec import (
    HEADER_BYTES,
    BadCommand,
    Bye,
    Subscribe,
    decode,
    encode_packet,
    encode_subscribe,
    packets,
    parse_command,
)

U16 = st.integers(0, 0xFFFF)
U32 = st.integers(0, 0xFFFF_FFFF)
PRICE = st.floats(width=32, allow_nan=False)
KEYS = st.builds(InstrumentKey, st.sampled_from(list(Segment)), U32)
TRADE = (KEYS, PRICE, U16, U32, PRICE, U32, U32, U32)
LEVELS = st.lists(st.builds(DepthLevel, U32, U32, U16, U16, PRICE, PRICE), min_size=5, max_size=5).map(tuple)
UNREAD = st.sampled_from([0, 1, 3, 9, 41, 51, 200])

PACKETS: st.SearchStrategy[Packet] = st.one_of(
    st.builds(Ticker, KEYS, PRICE, U32),
    st.builds(PrevClose, KEYS, PRICE, U32),
    st.builds(Quote, *TRADE, PRICE, PRICE, PRICE, PRICE),
    st.builds(OpenInterest, KEYS, U32),
    st.builds(Full, *TRADE, U32, U32, U32, PRICE, PRICE, PRICE, PRICE, depth=LEVELS),
    st.builds(MarketStatus, KEYS),
    st.builds(Disconnect, U16),
    st.builds(Unknown, UNREAD, st.integers(8, 400)),
)


def check_decoded(frame: bytes) -> None:
    """Either packets that account for every byte, or a refusal that points into the frame."""
    try:
        found = decode(frame)
    except BadFrame as error:
        refusal = error
        assert 0 <= refusal.offset < len(frame)
        assert found_before(frame, refusal) == decode(frame[: refusal.offset])
    else:
        assert len(found) <= len(frame) // HEADER_BYTES


def found_before(frame: bytes, refusal: BadFrame) -> list[Packet]:
    return list(islice(packets(frame), len(decode(frame[: refusal.offset]))))


def check_parsed(text: str) -> None:
    try:
        command = parse_command(text)
    except BadCommand as error:
        refusal = error
        assert refusal.reason
    else:
        assert isinstance(command, Bye) or 1 <= len(command.keys) <= 100


@given(st.lists(PACKETS, max_size=12))
def test_stacked_values_round_trip(sent: list[Packet]) -> None:
    assert decode(b"".join(map(encode_packet, sent))) == sent


@given(st.binary(max_size=400))
def test_random_bytes_only_raise_bad_frame(frame: bytes) -> None:
    check_decoded(frame)


@given(st.lists(PACKETS, min_size=1, max_size=4), st.data())
def test_damaged_frames_only_raise_bad_frame(sent: list[Packet], data: st.DataObject) -> None:
    frame = bytearray(b"".join(map(encode_packet, sent)))
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    check_decoded(bytes(frame[: data.draw(st.integers(0, len(frame)))]))


@given(st.text(max_size=200))
def test_random_text_only_raises_bad_command(text: str) -> None:
    check_parsed(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {"RequestCode": st.sampled_from([12, 15, 16, 17, 18, 21, 22]) | JSON},
        optional={
            "InstrumentCount": st.integers(0, 3) | JSON,
            "InstrumentList": st.lists(
                st.fixed_dictionaries({"ExchangeSegment": st.sampled_from(["NSE_EQ", "X"]) | JSON, "SecurityId": JSON})
            )
            | JSON,
        },
    )
)
def test_almost_commands_only_raise_bad_command(request: dict[str, object]) -> None:
    check_parsed(json.dumps(request))


@given(st.lists(KEYS, min_size=1, max_size=100), st.sampled_from(list(Mode)))
def test_commands_round_trip(keys: list[InstrumentKey], mode: Mode) -> None:
    assert parse_command(encode_subscribe(keys, mode)) == Subscribe(mode, tuple(keys))
