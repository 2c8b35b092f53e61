"""Cursors into a shared log: bounded, fair, newest first when behind."""

from __future__ import annotations

import pytest

from app.stream.outbox import Outbox
from app.stream.stream_log import LAG_MAX, Cursor, Part, Step, StreamLog, pack_step, unpack_step


def delta(seq: int, size: int = 10) -> Step:
    return Step(Part.DELTA, seq, b"{" + b"d" * size)


def snapshot(seq: int) -> Step:
    return Step(Part.SNAPSHOT, seq, b"{s", b"dictionary")


def filled(last: int = 20) -> StreamLog:
    log = StreamLog()
    log.append(snapshot(1))
    for seq in range(2, last + 1):
        log.append(delta(seq))
    return log


def test_new_reader_gets_the_snapshot_and_then_every_step() -> None:
    log = StreamLog()
    log.append(snapshot(1))
    cursor = Cursor()
    assert log.pull(cursor) == snapshot(1)
    assert log.is_done(cursor)
    log.append(delta(2))
    assert not log.is_done(cursor)
    assert log.pull(cursor) == delta(2)
    assert log.is_done(cursor)


def test_snapshot_a_few_steps_old_is_caught_up_with() -> None:
    log = filled(LAG_MAX)
    cursor = Cursor()
    pulled = [log.pull(cursor) for _ in range(LAG_MAX)]
    assert [step.seq for step in pulled if step] == list(range(1, LAG_MAX + 1))


def test_old_snapshot_is_not_served() -> None:
    log = filled(20)
    assert log.pull(Cursor()) is None
    assert not log.has_fresh_snapshot
    log.append(snapshot(20))
    cursor = Cursor()
    assert log.pull(cursor) == snapshot(20)
    assert log.is_done(cursor)


def test_reader_that_falls_behind_gets_a_snapshot_and_no_backlog() -> None:
    log = filled(20)
    slow = Cursor(20 - LAG_MAX)
    assert log.pull(slow) is None
    log.append(snapshot(20))
    assert log.pull(slow) == snapshot(20)
    on_time = Cursor(20 - LAG_MAX + 1)
    assert log.pull(on_time) == delta(20 - LAG_MAX + 1)


def test_resume_gives_every_missing_step_however_many() -> None:
    log = filled(20)
    cursor = log.resume(5)
    seqs = []
    while not log.is_done(cursor):
        step = log.pull(cursor)
        assert step is not None
        seqs.append(step.seq)
    assert seqs == list(range(6, 21))


@pytest.mark.parametrize("seq", [21, 10_000])
def test_resume_of_an_unknown_number_needs_a_snapshot(seq: int) -> None:
    assert filled(20).resume(seq).next_seq == 0


def test_resume_at_the_head_misses_nothing() -> None:
    log = filled(20)
    assert log.is_done(log.resume(20))


def test_resume_starts_at_the_last_snapshot_among_the_missing() -> None:
    log = filled(5)
    log.append(snapshot(6))
    log.append(delta(7))
    assert log.resume(3).next_seq == 6


def test_log_is_bounded_in_bytes_and_steps() -> None:
    log = StreamLog(keep_bytes=100, keep_steps=50)
    log.append(snapshot(1))
    for seq in range(2, 200):
        log.append(delta(seq, size=19))
    assert not log.has(194)
    assert log.has(195)
    assert log.resume(150).next_seq == 0


def test_steps_lost_on_the_way_make_the_past_useless() -> None:
    log = filled(5)
    log.append(delta(9))
    assert not log.has(5)
    assert log.pull(Cursor(6)) is None
    assert not log.has_fresh_snapshot


def test_step_travels_as_it_is() -> None:
    for step in (snapshot(2**52), delta(7), Step(Part.SNAPSHOT, 1, b"\x01\x02", b"")):
        assert unpack_step(pack_step(step)) == step


@pytest.mark.parametrize("payload", [b"", b"\x01", b"\x07" + bytes(15), b"\x01\0\0\0\xff\0\0\0" + bytes(8)])
def test_bytes_that_are_no_step(payload: bytes) -> None:
    with pytest.raises(ValueError):
        unpack_step(payload)


def test_topics_take_turns() -> None:
    outbox: Outbox[str] = Outbox()
    for key in "abc":
        outbox.follow(key, Cursor())
    turns = []
    for _ in range(6):
        ready = outbox.take_ready()
        assert ready is not None
        turns.append(ready[0])
        outbox.mark(ready[0])
    assert turns == list("abcabc")


def test_marks_do_not_pile_up() -> None:
    outbox: Outbox[str] = Outbox()
    outbox.follow("a", Cursor())
    for _ in range(1_000):
        assert outbox.mark("a")
    assert not outbox.mark("b")
    assert outbox.take_ready() is not None
    assert outbox.take_ready() is None
    assert not outbox.has_mail


def test_unfollowed_topic_has_no_mail() -> None:
    outbox: Outbox[str] = Outbox()
    outbox.follow("a", Cursor())
    outbox.unfollow("a")
    outbox.unfollow("a")
    assert (len(outbox), outbox.take_ready(), outbox.cursor("a")) == (0, None, None)


def test_control_messages_are_bounded_and_the_loss_is_counted() -> None:
    outbox: Outbox[str] = Outbox(control_max=3)
    for number in range(5):
        outbox.post(str(number).encode())
    assert outbox.dropped == 2
    assert [outbox.take_control() for _ in range(4)] == [b"2", b"3", b"4", None]


def test_dictionary_is_needed_once() -> None:
    cursor = Cursor()
    assert [cursor.needs(words) for words in (b"one", b"one", b"", b"two", b"two")] == [True, False, False, True, False]
