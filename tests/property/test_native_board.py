"""The native decoder leaves the very bytes that the pure one leaves, and its slot table is its dict at any time."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.dhan import native_build
from app.dhan.decoder import write_frame
from app.dhan.native import load_native
from app.ports.feed import NO_SOCKET, TickBuffers
from tests.fixtures.boards import CONNECTIONS, NOW_MS, TRACKED, new_buffers, random_frame, state_of
from tests.fixtures.decoders import NATIVE, NATIVE_PROBLEM, write_natively

needs_native = pytest.mark.skipif(
    NATIVE is None, reason=NATIVE_PROBLEM or "the native decoder is built and does not load"
)


@needs_native
@pytest.mark.parametrize("seed", range(10))
def test_boards_are_equal_after_hostile_streams(seed: int) -> None:
    rng = random.Random(1000 + seed)
    pure, native = new_buffers(random.Random(seed)), new_buffers(random.Random(seed))
    now_ms = NOW_MS
    for step in range(2000):
        now_ms += rng.choice((0, 1, 40, 700, -300))
        connection, frame = rng.randrange(CONNECTIONS), hostile(rng, now_ms)
        write_frame(pure, connection, frame, now_ms)
        write_natively(native, connection, frame, now_ms)
        if step % 50 == 0:
            change_owners(rng, pure, native)
    assert state_of(native) == state_of(pure)
    assert sum(entry.applied for entry in pure.counters) > 300


def hostile(rng: random.Random, now_ms: int) -> bytes:
    frame = bytearray(random_frame(rng, now_ms))
    for _ in range(rng.choice((0, 0, 1, 4))):
        if frame:
            frame[rng.randrange(len(frame))] = rng.randrange(256)  # any bits, not-a-numbers among them
    return bytes(frame)


def change_owners(rng: random.Random, *boards: TickBuffers) -> None:
    """The same tracking, untracking and moving on every board, as its owner would do it in between frames."""
    key, slot = rng.choice(TRACKED).packed, boards[0].slot_of.get(rng.choice(TRACKED).packed)
    owner, mover = rng.choice((0, 1, 2, NO_SOCKET)), rng.choice((0, 1, 2, NO_SOCKET))
    free = next(n for n in range(boards[0].slots) if n not in boards[0].slot_of.values())
    for board in boards:
        if key in board.slot_of:
            del board.slot_of[key]
        else:
            board.slot_of[key] = free
        if slot is not None:
            board.socket_of[slot], board.moving_to[slot] = owner, mover


@needs_native
@settings(max_examples=300)
@given(st.binary(max_size=600), st.integers(0, CONNECTIONS - 1), st.integers(0, 2**62))
def test_boards_are_equal_after_random_bytes(frame: bytes, connection: int, received_ms: int) -> None:
    pure, native = new_buffers(random.Random(5)), new_buffers(random.Random(5))
    for board, write in ((pure, write_frame), (native, write_natively)):
        write(board, connection, frame, received_ms)
    assert state_of(native) == state_of(pure)


KEYS = st.integers(0, 60) | st.sampled_from([key.packed for key in TRACKED])
CHANGES = st.one_of(
    st.tuples(st.just("set"), KEYS, st.integers(0, 47)),
    st.tuples(st.sampled_from(["del", "pop", "get", "default"]), KEYS, st.integers(0, 47)),
    st.tuples(st.sampled_from(["popitem", "clear", "update", "or"]), KEYS, st.integers(0, 47)),
)


@needs_native
@given(st.lists(CHANGES, max_size=120))
def test_the_slot_table_is_its_dict(changes: list[tuple[str, int, int]]) -> None:
    assert NATIVE is not None
    buffers = TickBuffers(slots=48, connections=1)
    board, plain = NATIVE.board_of(buffers), {}
    table = buffers.slot_of
    for what, key, slot in changes:
        if len(plain) < 40:
            if what == "set":
                table[key] = plain[key] = slot
            elif what == "default":
                assert table.setdefault(key, slot) == plain.setdefault(key, slot)
            elif what == "update":
                table.update({key: slot, key + 1: slot})
                plain.update({key: slot, key + 1: slot})
            elif what == "or":
                table |= {key: slot}
                plain |= {key: slot}
        if what == "del" and key in plain:
            del table[key], plain[key]
        elif what == "pop":
            assert table.pop(key, None) == plain.pop(key, None)
        elif what == "popitem" and plain:
            assert table.popitem() == plain.popitem()
        elif what == "clear":
            table.clear()
            plain.clear()
    assert table == plain
    found = {key: board.index.get(key) for key in {*range(62), *plain, *(key.packed for key in TRACKED)}}  # type: ignore[attr-defined]
    assert {key: slot for key, slot in found.items() if slot is not None} == plain


@needs_native
def test_the_slot_table_refuses_what_it_cannot_hold() -> None:
    assert NATIVE is not None
    buffers = TickBuffers(slots=2, connections=1)
    NATIVE.board_of(buffers)
    for key, slot in ((1, 2), (1, -1), (1 << 40, 0)):
        with pytest.raises((ValueError, OverflowError)):
            buffers.slot_of[key] = slot
    with pytest.raises(OverflowError):
        buffers.slot_of[-1] = 0
    buffers.slot_of.update({1: 0, 2: 1})
    with pytest.raises(OverflowError, match="more keys than slots"):
        buffers.slot_of[3] = 0
    assert buffers.slot_of == {1: 0, 2: 1}


@needs_native
def test_what_was_counted_before_is_kept() -> None:
    assert NATIVE is not None
    buffers = new_buffers(random.Random(1))
    write_frame(buffers, 0, b"\0", NOW_MS)
    slots = dict(buffers.slot_of)
    board = NATIVE.board_of(buffers)
    assert (buffers.counters[0].malformed, buffers.counters[0].frames) == (1, 1)
    assert buffers.slot_of == slots
    assert NATIVE.board_of(buffers) is board


@needs_native
def test_a_connection_that_does_not_exist_is_refused() -> None:
    assert NATIVE is not None
    buffers = TickBuffers(slots=1, connections=1)
    with pytest.raises(IndexError):
        NATIVE.board_of(buffers).write_frame(1, b"", NOW_MS)


def test_the_switch() -> None:
    assert load_native("0") == (None, "native decoder: switched off by BT_NATIVE=0")
    assert native_build.build("0") == "native decoder: switched off by BT_NATIVE=0"
    assert (load_native("auto")[0] is None) is (load_native("auto")[1] is not None)


def test_no_compiler_is_one_line_or_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler -O2")
    monkeypatch.setattr(native_build, "target", lambda: native_build.HERE / "not-built-here.so")
    told = native_build.build("auto")
    assert told == (
        "native decoder: not built, there is no compiler (no-such-compiler); the pure-Python decoder serves"
    )
    with pytest.raises(RuntimeError, match="BT_NATIVE=1"):
        native_build.build("1")
