"""One contract, three stores: memory, SQLite, PostgreSQL."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from app.core.errors import AlreadyExists, StoreUnavailable
from app.core.ids import InstrumentKey, OptionType, Segment, Tier
from app.ports.store import (
    EXPLICIT_LIST,
    AuditAction,
    AuditFilter,
    Changes,
    EntryState,
    InstrumentType,
    ListRow,
    Role,
    Store,
    StoredState,
)
from tests.contract.fakes import NOON, SetClock, atm, entry, leg, line

IST = ZoneInfo("Asia/Kolkata")


async def test_an_empty_store_loads_nothing(store: Store) -> None:
    await store.ping()
    await store.ping_write()
    assert await store.load() == StoredState()
    assert (store.trouble, store.failures) == (None, 0)


async def test_what_was_committed_is_loaded_field_by_field(store: Store) -> None:
    evicted = entry(
        "TCS",
        user_id=2,
        list_name=EXPLICIT_LIST,
        exchange="BSE",
        expiry=None,
        instrument_type=InstrumentType.EQUITY,
        added_at=datetime(2026, 2, 3, 9, 15, 0, 1, tzinfo=IST),
        added_order=7,
        centre=None,
        state=EntryState.EVICTED,
        state_at=NOON + timedelta(seconds=5),
        state_reason="made room for NIFTY – ₹",
    )
    legs = [
        leg(238.75),
        leg(None, token="TCS_EQ", expiry=None, option_type=None, ws_id=None, active=False, tier=Tier.B),
        leg(2640.0, option_type=OptionType.PE, key=InstrumentKey(Segment.BSE_FNO, 2**31)),
    ]
    first, second = await store.commit(Changes(entries_added=[entry(), evicted], legs=legs, atm=[atm()]))
    loaded = await store.load()
    assert loaded.entries == (replace(entry(), id=first), replace(evicted, id=second))
    assert loaded.legs == tuple(sorted(legs, key=lambda row: row.token))
    assert loaded.atm == (atm(),)
    assert 0 < first < second


async def test_moments_come_back_aware_and_in_utc(store: Store) -> None:
    plus_two = NOON.astimezone(timezone(timedelta(hours=2)))
    await store.commit(
        Changes(
            entries_added=[entry(added_at=plus_two, last_used_at=plus_two, state_at=plus_two)],
            legs=[leg(subscribed_at=plus_two)],
            atm=[atm(cached_at=plus_two)],
            audit=[line(timestamp=plus_two)],
        )
    )
    loaded = await store.load()
    kept = loaded.entries[0]
    (logged,) = await store.audit(AuditFilter())
    moments = [kept.added_at, kept.last_used_at, kept.state_at, loaded.legs[0].subscribed_at, loaded.atm[0].cached_at]
    for moment in [*moments, logged.timestamp]:
        assert moment is not None
        assert moment == NOON
        assert moment.utcoffset() == timedelta(0)


async def test_a_naive_moment_is_refused_and_changes_nothing(store: Store) -> None:
    naive = datetime(2026, 2, 3, 12)
    bad = [
        Changes(entries_added=[entry(added_at=naive)]),
        Changes(legs=[leg(), leg(2660.0, subscribed_at=naive)]),
        Changes(entries_added=[entry()], atm=[atm(cached_at=naive)]),
        Changes(legs=[leg()], audit=[line(timestamp=naive)]),
    ]
    for changes in bad:
        with pytest.raises(Exception, match="naive"):
            await store.commit(changes)
    assert await store.load() == StoredState()
    assert await store.audit(AuditFilter()) == []


@pytest.mark.parametrize("expiry", [None, date(2026, 2, 26)])
async def test_an_entry_exists_once(store: Store, expiry: date | None) -> None:
    await store.commit(Changes(entries_added=[entry(expiry=expiry)]))
    with pytest.raises(AlreadyExists):
        await store.commit(Changes(entries_added=[entry(expiry=expiry, exchange="BSE", added_order=9)]))
    others = [
        entry(expiry=expiry, user_id=2),
        entry(expiry=expiry, list_name=EXPLICIT_LIST),
        entry("TCS", expiry=expiry),
        entry(expiry=date(2026, 3, 30)),
        entry(expiry=expiry, instrument_type=InstrumentType.FUTURE),
    ]
    assert len(await store.commit(Changes(entries_added=others))) == 5
    assert len((await store.load()).entries) == 6


async def test_named_lists_are_kept_by_user_and_name(store: Store) -> None:
    swing, other = ListRow(1, "swing ₹", 2), ListRow(2, "swing ₹", 1)
    (moved,) = await store.commit(Changes(lists=[swing, other], entries_added=[entry(list_name="swing ₹", position=3)]))
    loaded = await store.load()
    assert loaded.lists == (swing, other)
    assert loaded.entries[0].position == 3
    renamed, placed = ListRow(1, "Swing", 2), ListRow(2, "swing ₹", 9)
    await store.commit(
        Changes(
            lists_removed=[(1, "swing ₹"), (3, "none")],
            lists=[renamed, placed],
            entries_updated=[replace(loaded.entries[0], list_name="Swing", position=1)],
        )
    )
    loaded = await store.load()
    assert sorted(loaded.lists, key=lambda row: row.user_id) == [renamed, placed]
    assert [(row.id, row.list_name, row.position) for row in loaded.entries] == [(moved, "Swing", 1)]


async def test_a_refused_commit_leaves_the_lists_alone(store: Store) -> None:
    kept = ListRow(1, "swing", 2)
    await store.commit(Changes(lists=[kept], entries_added=[entry()]))
    with pytest.raises(AlreadyExists):
        await store.commit(Changes(lists_removed=[(1, "swing")], lists=[ListRow(1, "new", 3)], entries_added=[entry()]))
    assert (await store.load()).lists == (kept,)


async def test_the_same_entry_twice_in_one_commit_is_refused(store: Store) -> None:
    with pytest.raises(AlreadyExists):
        await store.commit(Changes(entries_added=[entry(), entry()], legs=[leg()]))
    assert await store.load() == StoredState()


async def test_a_refused_commit_changes_nothing_at_all(store: Store) -> None:
    (kept, gone) = await store.commit(
        Changes(entries_added=[entry(), entry("TCS")], legs=[leg()], atm=[atm()], audit=[line()])
    )
    before = await store.load()
    log_before = await store.audit(AuditFilter())
    with pytest.raises(AlreadyExists):
        await store.commit(
            Changes(
                once="EOD:NSE:2026-02-03",
                entries_removed=[gone],
                entries_updated=[replace(before.entries[0], centre=2700.0)],
                entries_added=[entry("INFY"), entry()],
                leg_tokens_removed=[leg().token],
                legs=[leg(2660.0)],
                atm=[atm(current_ltp=1.0)],
                audit=[line("INFY_EQ")],
            )
        )
    assert await store.load() == before
    assert await store.audit(AuditFilter()) == log_before
    assert not await store.was_done("EOD:NSE:2026-02-03")
    assert kept in {row.id for row in before.entries}


async def test_entries_are_updated_by_id(store: Store) -> None:
    (first, second) = await store.commit(Changes(entries_added=[entry(), entry("TCS")]))
    rolled = entry(
        id=first,
        symbol="RELIANCE",
        expiry=date(2026, 3, 30),
        exchange="BSE",
        added_order=5,
        last_used_at=NOON + timedelta(minutes=1),
        centre=2700.0,
        state=EntryState.EVICTED,
        state_at=NOON,
        state_reason="r",
    )
    unknown = entry("WIPRO", id=second + 100)
    assert await store.commit(Changes(entries_updated=[rolled, unknown])) == []
    assert (await store.load()).entries == (rolled, replace(entry("TCS"), id=second))


async def test_an_update_may_not_take_another_entrys_place(store: Store) -> None:
    (first, second) = await store.commit(Changes(entries_added=[entry(), entry("TCS")]))
    before = await store.load()
    with pytest.raises(AlreadyExists):
        await store.commit(Changes(entries_updated=[entry(id=second)], legs=[leg()]))
    assert await store.load() == before
    # ... but it may once the place is free, in the order of the fields.
    assert await store.commit(Changes(entries_removed=[first], entries_updated=[entry(id=second)])) == []
    assert (await store.load()).entries == (entry(id=second),)


async def test_a_removed_entry_may_be_added_in_the_same_commit(store: Store) -> None:
    (first,) = await store.commit(Changes(entries_added=[entry()]))
    (second,) = await store.commit(Changes(entries_removed=[first, 10**6], entries_added=[entry(id=first)]))
    assert second > first
    assert (await store.load()).entries == (entry(id=second),)


async def test_ids_are_never_given_twice(store: Store) -> None:
    (first,) = await store.commit(Changes(entries_added=[entry()]))
    await store.commit(Changes(entries_removed=[first]))
    (second,) = await store.commit(Changes(entries_added=[entry()]))
    await store.commit(Changes(entries_removed=[second]))
    (third,) = await store.commit(Changes(entries_added=[entry()]))
    assert first < second < third


async def test_many_entries_leave_at_once(store: Store) -> None:
    added = await store.commit(Changes(entries_added=[entry(f"S{n}", added_order=n) for n in range(120)]))
    assert len(set(added)) == 120
    await store.commit(Changes(entries_removed=added[1:]))
    assert [row.id for row in (await store.load()).entries] == added[:1]


async def test_legs_are_inserted_or_replaced_by_token(store: Store) -> None:
    await store.commit(Changes(legs=[leg(2640.0), leg(2660.0)]))
    moved = leg(
        2640.0,
        key=InstrumentKey(Segment.BSE_FNO, 99),
        symbol="REL",
        expiry=None,
        option_type=OptionType.PE,
        tier=Tier.B,
        subscribed_at=NOON + timedelta(days=1),
        ws_id=None,
        active=False,
    )
    await store.commit(Changes(legs=[moved, leg(2680.0)]))
    assert (await store.load()).legs == (moved, leg(2660.0), leg(2680.0))


async def test_the_last_of_two_rows_for_one_token_counts(store: Store) -> None:
    await store.commit(Changes(legs=[leg(ws_id=1), leg(2660.0), leg(ws_id=5)], atm=[atm(), atm(current_ltp=9.0)]))
    loaded = await store.load()
    assert loaded.legs == (leg(ws_id=5), leg(2660.0))
    assert loaded.atm == (atm(current_ltp=9.0),)


async def test_removed_legs_leave_before_new_ones_come(store: Store) -> None:
    await store.commit(Changes(legs=[leg(2640.0), leg(2660.0)]))
    await store.commit(
        Changes(leg_tokens_removed=[leg(2640.0).token, leg(2660.0).token, "NO_SUCH"], legs=[leg(2660.0, ws_id=1)])
    )
    assert (await store.load()).legs == (leg(2660.0, ws_id=1),)


async def test_the_whole_always_on_universe_fits_one_commit(store: Store) -> None:
    legs = [leg(float(n), tier=Tier.B) for n in range(8_500)]
    await store.commit(Changes(legs=legs))
    assert len((await store.load()).legs) == 8_500
    strangers = [f"NO_SUCH_{n}" for n in range(33_000)]  # more than either database takes as variables
    await store.commit(Changes(leg_tokens_removed=[*strangers, *(row.token for row in legs[1:])]))
    assert (await store.load()).legs == (legs[0],)


async def test_a_chain_has_one_window_per_exchange_and_expiry(store: Store) -> None:
    rows = [atm(), atm(exchange="BSE"), atm(expiry=date(2026, 3, 30)), atm("NIFTY")]
    await store.commit(Changes(atm=rows))
    newer = atm(current_ltp=2701.25, atm_strike=2700.0, strike_step=2.5, cached_at=NOON, strikes=())
    await store.commit(Changes(atm=[newer]))
    assert set((await store.load()).atm) == {newer, *rows[1:]}


async def test_rows_come_in_one_order_everywhere(store: Store) -> None:
    # Databases sort text by their own collation; "a" and "_" and "B" tell them apart.
    tokens = ["é", "a_1", "_x", "M&M_EQ", "B_1", "BSE:A_1", "A_1"]
    for token in tokens:
        await store.commit(Changes(entries_added=[entry(token)], legs=[leg(token=token)], atm=[atm(token)]))
    loaded = await store.load()
    assert [row.symbol for row in loaded.entries] == tokens
    assert [row.token for row in loaded.legs] == sorted(tokens)
    assert [row.underlying_symbol for row in loaded.atm] == sorted(tokens)


async def test_once_happens_once(store: Store) -> None:
    (first,) = await store.commit(Changes(entries_added=[entry()]))
    assert not await store.was_done("EOD:NSE:2026-02-03")
    cleanup = line("", action=AuditAction.EOD_CLEANUP, reason="end of day")
    await store.commit(Changes(once="EOD:NSE:2026-02-03", entries_removed=[first], audit=[cleanup, line()]))
    assert await store.was_done("EOD:NSE:2026-02-03")
    assert not await store.was_done("EOD:BSE:2026-02-03")
    await store.commit(Changes(entries_added=[entry()]))
    with pytest.raises(AlreadyExists):
        await store.commit(Changes(once="EOD:NSE:2026-02-03", legs=[leg()], audit=[cleanup]))
    await store.commit(Changes(once="EOD:NSE:2026-02-04", audit=[cleanup]))
    loaded = await store.load()
    assert len(loaded.entries) == 1
    assert loaded.legs == ()
    assert [row.action for row in await store.audit(AuditFilter())] == [
        AuditAction.EOD_CLEANUP,
        AuditAction.SUBSCRIBE,
        AuditAction.EOD_CLEANUP,
    ]


async def test_once_without_a_line_of_its_own_still_leaves_one(store: Store, clock: SetClock) -> None:
    await store.commit(Changes(once="EOD:MCX:2026-02-03"))
    (left,) = await store.audit(AuditFilter())
    assert (left.action, left.reason, left.timestamp) == (AuditAction.EOD_CLEANUP, "EOD:MCX:2026-02-03", clock.at)
    with pytest.raises(AlreadyExists):
        await store.commit(Changes(once="EOD:MCX:2026-02-03"))
    assert len(await store.audit(AuditFilter())) == 1


async def test_of_many_at_the_same_time_one_does_it(store: Store) -> None:
    async def clean_up() -> bool:
        try:
            await store.commit(Changes(once="EOD", audit=[line()]))
        except AlreadyExists:
            return False
        return True

    outcomes = await asyncio.gather(*(clean_up() for _ in range(10)))
    assert sorted(outcomes) == [False] * 9 + [True]
    assert len(await store.audit(AuditFilter())) == 1


async def test_of_many_at_the_same_time_one_adds_the_entry(store: Store) -> None:
    async def add(number: int) -> bool:
        try:
            await store.commit(Changes(entries_added=[entry()], legs=[leg(float(number))]))
        except AlreadyExists:
            return False
        return True

    outcomes = await asyncio.gather(*(add(number) for number in range(10)))
    assert sorted(outcomes) == [False] * 9 + [True]
    loaded = await store.load()
    assert len(loaded.entries) == 1
    assert len(loaded.legs) == 1


async def test_the_log_reads_newest_first_and_by_filter(store: Store) -> None:
    lines = [
        line("A", action=AuditAction.SUBSCRIBE, timestamp=NOON),
        line("B", action=AuditAction.UNSUBSCRIBE, timestamp=NOON + timedelta(seconds=1)),
        line("A", action=AuditAction.RATE_LIMIT_EVICT, timestamp=NOON + timedelta(seconds=2)),
        line("A", action=AuditAction.RESTORE, timestamp=NOON + timedelta(seconds=3)),
    ]
    await store.commit(Changes(audit=lines))
    everything = await store.audit(AuditFilter())
    assert [replace(row, id=0) for row in everything] == lines[::-1]
    ids = [row.id for row in everything]
    assert ids == sorted(ids, reverse=True)
    assert len(set(ids)) == 4

    async def found(wanted: AuditFilter) -> list[int]:
        return [ids.index(row.id) for row in await store.audit(wanted)]

    assert await found(AuditFilter(token="A")) == [0, 1, 3]
    assert await found(AuditFilter(token="a")) == []
    assert await found(AuditFilter(action=AuditAction.UNSUBSCRIBE)) == [2]
    assert await found(AuditFilter(since=NOON + timedelta(seconds=2))) == [0, 1]
    assert await found(AuditFilter(since=(NOON + timedelta(seconds=2)).astimezone(IST))) == [0, 1]
    assert await found(AuditFilter(before_id=ids[1])) == [2, 3]
    assert await found(AuditFilter(token="A", before_id=ids[0], limit=1)) == [1]
    assert await found(AuditFilter(limit=3)) == [0, 1, 2]
    assert await found(AuditFilter(limit=0)) == []


async def test_paging_through_the_log_misses_and_repeats_nothing(store: Store) -> None:
    await store.commit(Changes(audit=[line(f"T{n}") for n in range(25)]))
    seen: list[str] = []
    before_id: int | None = None
    while page := await store.audit(AuditFilter(before_id=before_id, limit=7)):
        seen += [row.instrument_token for row in page]
        before_id = page[-1].id
        await store.commit(Changes(audit=[line("later")]))
    assert seen == [f"T{n}" for n in reversed(range(25))]


@pytest.mark.parametrize("token", ["\0", "NIFTY\0", "\ud800", "'; DROP TABLE users; --", "x" * 5_000])
async def test_a_token_that_cannot_exist_is_simply_not_found(store: Store, token: str) -> None:
    await store.commit(Changes(audit=[line()]))
    assert await store.audit(AuditFilter(token=token)) == []
    assert await store.user_by_name(token) is None


async def test_numbers_beyond_the_databases_range_are_answered(store: Store) -> None:
    await store.commit(Changes(audit=[line()]))
    assert len(await store.audit(AuditFilter(before_id=10**30, limit=10**30))) == 1
    assert await store.audit(AuditFilter(before_id=-(10**30))) == []
    assert await store.audit(AuditFilter(limit=-1)) == []
    assert await store.user_by_id(10**30) is None
    assert await store.user_by_id(0) is None


async def test_pruning_forgets_the_old_and_keeps_the_marks(store: Store) -> None:
    old, new = NOON - timedelta(days=91), NOON
    await store.commit(Changes(once="EOD:1", audit=[line("mark", timestamp=old), line("old", timestamp=old)]))
    await store.commit(Changes(audit=[line("old", timestamp=old), line("edge"), line("new", timestamp=new)]))
    assert await store.prune_audit(NOON) == 2
    assert [row.instrument_token for row in await store.audit(AuditFilter())] == ["new", "edge", "mark"]
    assert await store.was_done("EOD:1")
    assert await store.prune_audit(NOON) == 0
    (newest,) = await store.audit(AuditFilter(limit=1))
    await store.prune_audit(NOON + timedelta(days=1))
    await store.commit(Changes(audit=[line("after")]))
    assert (await store.audit(AuditFilter(limit=1)))[0].id > newest.id


async def test_a_stopped_store_says_that_it_is_unavailable(store: Store) -> None:
    await store.commit(Changes(entries_added=[entry()]))
    await store.stop()
    await store.stop()
    with pytest.raises(StoreUnavailable):
        await store.ping()
    with pytest.raises(StoreUnavailable):
        await store.load()
    with pytest.raises(StoreUnavailable):
        await store.commit(Changes(legs=[leg()]))
    with pytest.raises(StoreUnavailable):
        await store.ensure_user(1)
    await store.start()
    loaded = await store.load()
    assert [row.symbol for row in loaded.entries] == ["RELIANCE"]
    assert loaded.legs == ()


async def test_reads_and_writes_mix_freely(store: Store) -> None:
    async def write(number: int) -> None:
        await store.commit(Changes(legs=[leg(float(number))], audit=[line(f"T{number}")]))

    async def read() -> None:
        loaded = await store.load()
        assert len(loaded.legs) <= 30

    await asyncio.gather(*(write(number) for number in range(30)), *(read() for _ in range(10)))
    assert len((await store.load()).legs) == 30
    assert len(await store.audit(AuditFilter())) == 30


async def test_what_a_commit_answered_every_later_read_sees(store: Store) -> None:
    for number in range(20):
        await store.commit(Changes(legs=[leg(float(number))]))
        assert len((await store.load()).legs) == number + 1


async def test_a_stop_lets_what_is_under_way_end(store: Store) -> None:
    commits = [asyncio.ensure_future(store.commit(Changes(legs=[leg(float(n))]))) for n in range(5)]
    await asyncio.sleep(0)
    await store.stop()
    await asyncio.wait(commits)
    answered = sum(commit.exception() is None for commit in commits)
    assert all(isinstance(commit.exception(), StoreUnavailable | None) for commit in commits)
    await store.start()
    assert len((await store.load()).legs) == answered


async def test_a_load_is_of_one_moment(store: Store) -> None:
    async def write() -> None:
        for number in range(40):
            await store.commit(
                Changes(entries_added=[entry(f"S{number}")], legs=[leg(float(number))], atm=[atm(f"S{number}")])
            )

    writing = asyncio.ensure_future(write())
    while not writing.done():
        loaded = await store.load()
        assert len(loaded.entries) == len(loaded.legs) == len(loaded.atm)
        await asyncio.sleep(0)
    await writing
    assert len((await store.load()).entries) == 40


async def test_an_error_tells_no_secret(store: Store) -> None:
    await store.add_user("asha", Role.ADMIN, "$argon2id$secret")
    with pytest.raises(AlreadyExists) as failure:
        await store.add_user("asha", Role.ADMIN, "$argon2id$secret")
    told = f"{failure.value!r} {failure.value.__cause__!r} {failure.value.__cause__} {failure.value.__context__!r}"
    assert "secret" not in told
