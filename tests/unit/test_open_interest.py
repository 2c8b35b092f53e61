"""The baseline of ``oi_change`` survives a restart, by token and not by id."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime
from importlib.resources import files
from pathlib import Path
from zoneinfo import ZoneInfo

from app.core.ids import InstrumentKey, Segment
from app.core.instruments import Instrument
from app.core.packets import DepthLevel, Full, ltt_from_utc
from app.core.sessions import Calendar, parse_exchange_days
from app.dhan.codec import encode_packet
from app.dhan.decoder import write_frame
from app.market.live_prices import LivePrices
from app.market.session_oi import OiBasis, PreviousOi
from app.runtime.open_interest import FILES_KEPT_PER_SEGMENT, OpenInterestBook
from tests.masters import small_registry

NOW_MS = 1_770_000_000_000
IST = ZoneInfo("Asia/Kolkata")
ALWAYS = Calendar([], IST, always_open=True)


def show(board: LivePrices, leg: Instrument, oi: int) -> None:
    slot = board.track(leg)
    board.buffers.socket_of[slot] = 0
    level = DepthLevel(1, 1, 1, 1, 99.0, 101.0)
    full = Full(leg.key, 100, 1, ltt_from_utc(NOW_MS / 1000), 100, 5, 1, 1, oi, oi, oi, 99, 98, 101, 97, (level,) * 5)
    write_frame(board.buffers, 0, encode_packet(full), NOW_MS)


def oi_change(board: LivePrices, leg: Instrument) -> float:
    return float(board.columns([board.track(leg)]).column("oi_change")[0])


def book_of(directory: Path, board: LivePrices, at: str, calendar: Calendar = ALWAYS) -> OpenInterestBook:
    """The book of a service at that moment of February 2026."""
    return OpenInterestBook(
        directory, board, calendar, lambda: datetime.fromisoformat(f"2026-02-{at}").replace(tzinfo=IST)
    )


def some_leg(directory: Path) -> Instrument:
    registry = small_registry(directory)
    return next(
        each
        for symbol in registry.symbols()
        for each in registry.get_by_symbol(symbol)
        if each.key.segment is Segment.NSE_FNO and each.option_type
    )


def end(board: LivePrices, leg: Instrument, closed_ms: int = NOW_MS) -> None:
    board.end_session(leg.key.segment, closed_ms, None)


def test_what_a_session_ended_at_is_the_next_days_baseline(tmp_path: Path) -> None:
    leg = some_leg(tmp_path)
    before = LivePrices()
    show(before, leg, 1_000)
    end(before, leg)
    book_of(tmp_path, before, "03T00:00").keep(leg.key.segment, date(2026, 2, 2))

    after = LivePrices()
    book_of(tmp_path, after, "03T10:00").load()
    show(after, leg, 1_300)
    assert oi_change(after, leg) == 300

    much_later = LivePrices()
    book_of(tmp_path, much_later, "04T10:00").load()
    show(much_later, leg, 1_300)
    assert oi_change(much_later, leg) != oi_change(much_later, leg), "a session before the previous one: unknown"

    same_day = LivePrices()
    book_of(tmp_path, same_day, "02T10:00").load()
    show(same_day, leg, 1_300)
    assert oi_change(same_day, leg) != oi_change(same_day, leg), "today's own file is no baseline: unknown"


def test_a_session_that_runs_leaves_nothing_behind(tmp_path: Path) -> None:
    leg = some_leg(tmp_path)
    board = LivePrices()
    show(board, leg, 1_000)
    book_of(tmp_path, board, "02T12:00").keep(leg.key.segment, date(2026, 2, 2))
    assert not (tmp_path / "open-interest").exists()


def test_started_between_two_sessions_both_baselines_are_what_they_were(tmp_path: Path) -> None:
    folder = files("app.core") / "calendars"
    days = [parse_exchange_days((folder / f"{name}.toml").read_text()) for name in ("nse", "bse", "mcx")]
    calendar = Calendar(days, IST)
    leg = some_leg(tmp_path)
    for day, oi in ((2, 1_000), (3, 1_200)):
        board = LivePrices()
        show(board, leg, oi)
        end(board, leg)
        book_of(tmp_path, board, "04T08:00", calendar).keep(leg.key.segment, date(2026, 2, day))

    board = LivePrices()
    book_of(tmp_path, board, "04T08:00", calendar).load()
    show(board, leg, 1_200)
    assert oi_change(board, leg) == 200, "the session of the 3rd is still the newest"
    silent = LivePrices()
    book_of(tmp_path, silent, "04T08:00", calendar).load()
    closed = datetime(2026, 2, 3, 15, 30, tzinfo=IST)
    silent.new_session(leg.key.segment, int(closed.timestamp() * 1000))
    show(silent, leg, 1_500)
    assert oi_change(silent, leg) == 300, "nothing came before the open: what was kept of the 3rd serves"


def test_damaged_and_foreign_files_are_no_baseline_and_old_ones_go(tmp_path: Path) -> None:
    leg = some_leg(tmp_path)
    board = LivePrices()
    show(board, leg, 1_000)
    end(board, leg)
    book = book_of(tmp_path, board, "20T10:00")
    for day in range(15, 20):
        book.keep(leg.key.segment, date(2026, 2, day))
    book.keep(leg.key.segment, date(2026, 2, 14))
    folder = tmp_path / "open-interest"
    assert len(list(folder.glob("*.json"))) == FILES_KEPT_PER_SEGMENT
    (folder / f"{leg.key.segment.name}-2026-02-19.json").write_text('{"NO_SUCH_TOKEN": 5, "broken"')
    (folder / f"{Segment.IDX_I.name}-2026-02-19.json").write_text('{"NO_SUCH_TOKEN": 5}')
    book.load()
    assert oi_change(board, leg) != oi_change(board, leg)


def test_a_new_session_forgets_what_is_older_than_the_one_before(tmp_path: Path) -> None:
    leg = some_leg(tmp_path)
    board = LivePrices()
    board.track(leg)
    board.set_previous_oi(leg.key.segment, {leg.token: PreviousOi(900, OiBasis.REST)})
    board.new_session(leg.key.segment, NOW_MS - 1)
    show(board, leg, 1_000)
    assert oi_change(board, leg) != oi_change(board, leg), "it told nothing in the session before"
    board.add_baselines([(leg, PreviousOi(950, OiBasis.REST))])
    board.add_baselines([(leg, PreviousOi(1, OiBasis.REST))])
    assert oi_change(board, leg) == 50
    board.new_session(leg.key.segment, NOW_MS)
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
