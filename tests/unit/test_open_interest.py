"""The baseline of ``oi_change`` survives a restart, by token and not by id."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

from app.core.ids import InstrumentKey, Segment
from app.core.instruments import Instrument
from app.core.packets import DepthLevel, Full, ltt_from_utc
from app.core.sessions import Calendar
from app.dhan.codec import encode_packet
from app.dhan.decoder import write_frame
from app.market.live_prices import LivePrices, OiBasis, PreviousOi
from app.runtime.open_interest import FILES_KEPT_PER_SEGMENT, OpenInterestBook
from tests.masters import small_registry

NOW_MS = 1_770_000_000_000
ALWAYS = Calendar([], ZoneInfo("Asia/Kolkata"), always_open=True)


def show(board: LivePrices, leg: Instrument, oi: int) -> None:
    slot = board.track(leg)
    board.buffers.socket_of[slot] = 0
    level = DepthLevel(1, 1, 1, 1, 99.0, 101.0)
    full = Full(leg.key, 100, 1, ltt_from_utc(NOW_MS / 1000), 100, 5, 1, 1, oi, oi, oi, 99, 98, 101, 97, (level,) * 5)
    write_frame(board.buffers, 0, encode_packet(full), NOW_MS)


def oi_change(board: LivePrices, leg: Instrument) -> float:
    return float(board.columns([board.track(leg)]).column("oi_change")[0])


def test_what_a_session_ended_at_is_the_next_days_baseline(tmp_path: Path) -> None:
    registry = small_registry(tmp_path)
    leg = next(each for symbol in registry.symbols() for each in registry.get_by_symbol(symbol) if each.option_type)
    before = LivePrices()
    show(before, leg, 1_000)
    OpenInterestBook(tmp_path, before, ALWAYS, lambda: date(2026, 2, 2)).keep(leg.key.segment, date(2026, 2, 2))

    after = LivePrices()
    book = OpenInterestBook(tmp_path, after, ALWAYS, lambda: date(2026, 2, 3))
    book.load()
    show(after, leg, 1_300)
    assert oi_change(after, leg) == 300

    much_later = LivePrices()
    OpenInterestBook(tmp_path, much_later, ALWAYS, lambda: date(2026, 2, 4)).load()
    show(much_later, leg, 1_300)
    assert oi_change(much_later, leg) != oi_change(much_later, leg), "a session before the previous one: unknown"

    same_day = LivePrices()
    OpenInterestBook(tmp_path, same_day, ALWAYS, lambda: date(2026, 2, 2)).load()
    show(same_day, leg, 1_300)
    assert oi_change(same_day, leg) != oi_change(same_day, leg), "today's own file is no baseline: unknown"


def test_damaged_and_foreign_files_are_no_baseline_and_old_ones_go(tmp_path: Path) -> None:
    registry = small_registry(tmp_path)
    leg = next(each for symbol in registry.symbols() for each in registry.get_by_symbol(symbol) if each.option_type)
    board = LivePrices()
    show(board, leg, 1_000)
    book = OpenInterestBook(tmp_path, board, ALWAYS, lambda: date(2026, 2, 20))
    for day in range(1, 12):
        book.keep(leg.key.segment, date(2026, 2, day))
    folder = tmp_path / "open-interest"
    assert len(list(folder.glob("*.json"))) == FILES_KEPT_PER_SEGMENT
    (folder / f"{leg.key.segment.name}-2026-02-15.json").write_text('{"NO_SUCH_TOKEN": 5, "broken"')
    (folder / f"{Segment.IDX_I.name}-2026-02-15.json").write_text('{"NO_SUCH_TOKEN": 5}')
    book.load()
    assert oi_change(board, leg) != oi_change(board, leg)


def test_a_new_session_forgets_what_is_older_than_the_one_before(tmp_path: Path) -> None:
    registry = small_registry(tmp_path)
    leg = next(each for symbol in registry.symbols() for each in registry.get_by_symbol(symbol) if each.option_type)
    board = LivePrices()
    board.track(leg)
    board.set_previous_oi(leg.key.segment, {leg.token: PreviousOi(900, OiBasis.REST)})
    board.new_session(leg.key.segment)
    show(board, leg, 1_000)
    assert oi_change(board, leg) != oi_change(board, leg), "it told nothing in the session before"
    board.add_baselines([(leg, PreviousOi(950, OiBasis.REST))])
    board.add_baselines([(leg, PreviousOi(1, OiBasis.REST))])
    assert oi_change(board, leg) == 50
    board.new_session(leg.key.segment)
    show(board, leg, 1_200)
    assert oi_change(board, leg) == 200


def test_a_baseline_goes_with_its_contract_when_a_new_master_changes_the_ids(tmp_path: Path) -> None:
    registry = small_registry(tmp_path)
    legs = [each for symbol in registry.symbols() for each in registry.get_by_symbol(symbol) if each.option_type]
    over, moved = legs[0], next(each for each in legs[1:] if each.key.segment is legs[0].key.segment)
    board = LivePrices()
    board.set_previous_oi(
        over.key.segment,
        {
            over.token: PreviousOi(900, OiBasis.PREVIOUS_SESSION),
            moved.token: PreviousOi(40, OiBasis.PREVIOUS_SESSION),
        },
    )
    board.track(over)
    board.track(moved)
    for each in (over, moved):
        board.untrack(each.key)
    new = replace(over, token="NEW_26MAR2026_100CE")
    moved = replace(moved, key=InstrumentKey(moved.key.segment, 999_999))
    show(board, new, 1_000)
    show(board, moved, 100)
    assert oi_change(board, new) != oi_change(board, new), "the id is another contract's now: unknown"
    assert board.lacks_baseline(new)
    assert oi_change(board, moved) == 60
