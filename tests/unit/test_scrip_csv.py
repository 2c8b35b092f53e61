"""From Dhan's file to the snapshot: every way it is packed, every oddity, every reason to refuse it."""

from __future__ import annotations

import gzip
import subprocess
import sys
import zipfile
from datetime import date
from pathlib import Path

import pytest
import zstandard

from app.core.errors import MasterRefused
from app.core.ids import InstrumentKey, Segment
from app.market.instrument_master.registry import InstrumentRegistry
from app.market.instrument_master.scrip_csv import build_snapshot
from app.market.instrument_master.snapshot import map_columns
from tests.masters import ROOT, SMALL, SMALL_DAY, small_registry

TEXT = SMALL.read_text()
LINES = TEXT.splitlines()
COMPACT_HEADER = (
    "SEM_EXM_EXCH_ID,SEM_SEGMENT,SEM_SMST_SECURITY_ID,SEM_INSTRUMENT_NAME,SEM_EXPIRY_CODE,SEM_TRADING_SYMBOL,"
    "SEM_LOT_UNITS,SEM_CUSTOM_SYMBOL,SEM_EXPIRY_DATE,SEM_STRIKE_PRICE,SEM_OPTION_TYPE,SEM_TICK_SIZE,SEM_EXPIRY_FLAG,"
    "SEM_EXCH_INSTRUMENT_TYPE,SEM_SERIES,SM_SYMBOL_NAME"
)
COMPACT = """
NSE,I,13,INDEX,0,NIFTY,1.0,Nifty 50,0001-01-01 00:00:00,,XX,0.0500,N,INDEX,NA,NIFTY
NSE,E,16669,EQUITY,0,BAJAJ-AUTO,1.0,Bajaj Auto,,,,50.0000,NA,ES,EQ,BAJAJ AUTO LIMITED
NSE,D,71000,FUTSTK,0,BAJAJ-AUTO-Oct2026-FUT,75.0,BAJAJ-AUTO OCT FUT,2026-10-27 14:30:00,-0.01,XX,5.0000,M,FUT,NA,
NSE,D,71001,OPTSTK,0,M&M-Oct2026-3500-CE,200.0,M&M 27 OCT 3500 CALL,2026-10-27 15:30:00,3500.0,CE,5.0000,M,OP,NA,
NSE,D,71002,OPTIDX,0,NIFTY-Oct2026-25000-PE,65.0,NIFTY 20 OCT 25000 PUT,2026-10-20 14:30:00,25000.0,PE,5.0,W,OP,NA,
BSE,D,869699,OPTIDX,0,BSXOPT,20.0,SENSEX 22 OCT 74300 CALL,2026-10-22 15:30:00,74300.0,CE,5.0,W,OPTIDX,NA,BSXOPT
MCX,M,513380,FUTCOM,0,CRUDEOIL-19Oct2026-FUT,1.0,CRUDEOIL OCT FUT,2026-10-19 23:30:00,0.0,XX,100.0,M,FUTCOM,2,CRUDEOIL
MCX,M,513413,OPTFUT,0,GOLD-30Oct2026-163500-CE,1.0,GOLD 30 OCT 163500 CALL,2026-10-30 23:30:00,163500,CE,50,M,OPTFUT,2,
""".strip().splitlines()


def streamed(data: bytes) -> bytes:
    """Compressed without the size in the frame, as a pipe does, and in two frames."""
    half = len(data) // 2
    packer = zstandard.ZstdCompressor(write_content_size=False)
    return b"".join(
        (piece := packer.compressobj()).compress(part) + piece.flush() for part in (data[:half], data[half:])
    )


def built(tmp_path: Path, text: str | bytes, name: str = "master.csv", day: date = SMALL_DAY) -> InstrumentRegistry:
    source = tmp_path / name
    source.write_bytes(text.encode() if isinstance(text, str) else text)
    build_snapshot(source, tmp_path / "out.snapshot")
    registry = InstrumentRegistry(lambda: day)
    registry.load(tmp_path / "out.snapshot")
    return registry


def refusal(tmp_path: Path, text: str | bytes, name: str = "master.csv", in_use: Path | None = None) -> str:
    source = tmp_path / name
    source.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(MasterRefused) as caught:
        build_snapshot(source, tmp_path / "refused.snapshot", in_use)
    assert not (tmp_path / "refused.snapshot").exists()
    return caught.value.detail


@pytest.mark.parametrize(
    ("told", "limits"),
    [
        ("118.6000,12.4000,1756", (12.4, 118.6, 1756)),
        ("118.6000,12.4000,-1", (12.4, 118.6, None)),
        ("0.0000,0.0000,0", (None, None, None)),
        ("12.4000,118.6000,600", (None, None, 600)),  # the upper below the lower: a corrupt row
        ("inf,12.4000,", (None, None, None)),
        ("x,12.4000,y", (None, None, None)),
    ],
)
def test_trading_limits_are_told_only_where_they_can_be_meant(
    tmp_path: Path, told: str, limits: tuple[float | None, float | None, int | None]
) -> None:
    assert LINES[1].endswith(",0.0000,0.0000,0,")
    line = LINES[1].removesuffix("0.0000,0.0000,0,") + told + ","
    registry = built(tmp_path, "\n".join((LINES[0], line, *LINES[2:])))
    assert registry.trading_limits(InstrumentKey(Segment.IDX_I, 13)) == limits
    assert registry.trading_limits(InstrumentKey(Segment.IDX_I, 99_999)) == (None, None, None)


def test_a_file_without_columns_of_limits_tells_none(tmp_path: Path) -> None:
    registry = built(tmp_path, "\n".join((COMPACT_HEADER, *COMPACT)))
    assert registry.trading_limits(InstrumentKey(Segment.NSE_FNO, 71_002)) == (None, None, None)


def test_counts_every_row_in_use_or_left_out_with_a_reason(tmp_path: Path) -> None:
    report = small_registry(tmp_path).report
    assert report is not None
    assert report.rows == len(LINES) - 1
    assert report.rows == report.in_use + sum(report.left_out.values())
    assert report.left_out == {"no feed code": 2, "test scrip": 2, "name taken by another series": 2, "expired": 3}
    assert sum(report.file_rows.values()) == report.rows
    assert report.file_rows["NSE/M"] == 2
    assert report.by_segment["IDX_I"] == 11


@pytest.mark.parametrize("packing", ["plain", "gz", "zst", "frames", "zip", "crlf", "bom"])
def test_reads_every_packing_alike(tmp_path: Path, packing: str) -> None:
    data = TEXT.encode()
    if packing == "gz":
        data = gzip.compress(data)
    elif packing == "zst":
        data = zstandard.compress(data)
    elif packing == "frames":
        data = streamed(data)
    elif packing == "zip":
        with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("api-scrip-master-detailed.csv", data)
        data = (tmp_path / "a.zip").read_bytes()
    elif packing == "crlf":
        data = TEXT.replace("\n", "\r\n").encode()
    elif packing == "bom":
        data = TEXT.encode("utf-8-sig")
    registry = built(tmp_path, data)
    assert registry.report is not None
    assert registry.report.in_use == 94
    assert registry.by_token("RELIANCE_26FEB2026_2640CE").key == InstrumentKey(Segment.BSE_FNO, 50005)


def test_reads_by_column_name_whatever_the_order_and_the_extras(tmp_path: Path) -> None:
    rows = [line.split(",") for line in LINES]
    width = len(rows[0])
    turned = [",".join(["x", *reversed(row[: width - 1]), "y"]) for row in rows]
    registry = built(tmp_path, "\n".join(turned) + "\n")
    assert registry.report is not None
    assert registry.report.in_use == 94
    assert registry.by_token("ONGC_24FEB2026_238.75PE").strike == 238.75


def test_tolerates_a_trailing_comma_on_rows_only(tmp_path: Path) -> None:
    text = "\n".join([LINES[0].rstrip(","), *LINES[1:]]) + "\n"
    report = built(tmp_path, text).report
    assert report is not None
    assert report.in_use == 94


def test_ticks_are_paise_except_for_indices(tmp_path: Path) -> None:
    registry = small_registry(tmp_path)
    ticks = {token: registry.by_token(token).tick for token in ("NIFTY_IDX", "RELIANCE_EQ", "GOLD_FUT", "SILVER_EQ")}
    assert ticks == {"NIFTY_IDX": 0.05, "RELIANCE_EQ": 0.1, "GOLD_FUT": 1.0, "SILVER_EQ": 0.01}
    assert registry.by_token("USDINR_25FEB2026_90.25CE").tick == 0.0025
    assert registry.by_token("GIFTNIFTY_IDX").tick == 0.0


def test_sentinels_become_absent_values(tmp_path: Path) -> None:
    registry = small_registry(tmp_path)
    index, future = registry.by_token("NIFTY_IDX"), registry.by_token("NIFTY_24FEB2026_FUT")
    assert (index.expiry, index.strike, index.option_type) == (None, None, None)
    assert (future.strike, future.option_type, future.lot_size) == (None, None, 65)


def test_literal_na_is_text(tmp_path: Path) -> None:
    text = (
        TEXT + LINES[-1].replace("USDINR", "NA").replace(",1026077,", ",77,").replace("2024-08-28", "2026-08-28") + "\n"
    )
    assert built(tmp_path, text).by_token("NA_28AUG2026_FUT").key == InstrumentKey(Segment.BSE_CURRENCY, 77)


def test_a_share_wins_over_other_series_of_its_symbol(tmp_path: Path) -> None:
    registry = small_registry(tmp_path)
    assert registry.by_token("CHOLAFIN_EQ").key == InstrumentKey(Segment.NSE_EQ, 685)
    assert registry.by_token("CAPINS_IDX").key == InstrumentKey(Segment.IDX_I, 99)


def test_reads_compact_files(tmp_path: Path) -> None:
    registry = built(tmp_path, "\n".join([COMPACT_HEADER, *COMPACT]) + "\n", day=date(2026, 10, 1))
    assert registry.report is not None
    assert registry.report.layout == "compact"
    tokens = {
        "NIFTY_IDX": 13,
        "BAJAJ-AUTO_EQ": 16669,
        "BAJAJ-AUTO_27OCT2026_FUT": 71000,
        "M&M_27OCT2026_3500CE": 71001,
        "NIFTY_20OCT2026_25000PE": 71002,
        "SENSEX_22OCT2026_74300CE": 869699,
        "CRUDEOIL_FUT": 513380,
        "GOLD_30OCT2026_163500CE": 513413,
    }
    assert {token: registry.by_token(token).key.security_id for token in tokens} == tokens


@pytest.mark.parametrize("written", ["2026-02-05 23:30:00", "05/02/2026", "05/02/26", "05-02-2026", "05-Feb-2026"])
def test_reads_dates_as_people_save_them(tmp_path: Path, written: str) -> None:
    text = TEXT.replace(",2026-02-05,", f",{written},")
    assert built(tmp_path, text).by_token("GOLD_FUT").expiry == date(2026, 2, 5)


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (
            ",26000,NIFTY,NIFTY-Feb2026-24000-CE,NIFTY 24 FEB 24000 CALL,OP,NA,65.0,9999-12-31,24000.00000,CE",
            "derivative",
        ),
        (",26000,NIFTY,NIFTY-Feb2026-24000-CE,NIFTY 24 FEB 24000 CALL,OP,NA,65.0,2026-02-24,inf,CE", "option without"),
        (",26000,NIFTY,NIFTY-Feb2026-24000-CE,NIFTY 24 FEB 24000 CALL,OP,NA,65.0,2026-02-24,NaN,CE", "option without"),
        (",26000,NIFTY,NIFTY-Feb2026-24000-CE,NIFTY 24 FEB 24000 CALL,OP,NA,65.0,2026-02-24,-5,CE", "option without"),
        (
            ",26000,NIFTY,NIFTY-Feb2026-24000-CE,NIFTY 24 FEB 24000 CALL,OP,NA,65.0,2026-02-24,24000,XX",
            "option without",
        ),
    ],
)
def test_leaves_out_what_makes_no_sense(tmp_path: Path, cell: str, reason: str) -> None:
    row = next(line for line in LINES if "NIFTY 24 FEB 24000 CALL" in line)
    start = row.index(",26000,")
    changed = row[:start] + cell + row[row.index(",CE,") + 3 :]
    report = built(tmp_path, TEXT.replace(row, changed)).report
    assert report is not None
    assert report.in_use == 93
    assert [count for why, count in report.left_out.items() if why.startswith(reason)] == [1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        ("<html><body>503</body></html>\n", "columns missing: EXCH_ID"),
        (TEXT.replace("UNDERLYING_SYMBOL", "UNDERLYING"), "columns missing: UNDERLYING_SYMBOL"),
        (TEXT.replace("STRIKE_PRICE", "A").replace("TICK_SIZE", "B"), "columns missing: STRIKE_PRICE, TICK_SIZE"),
        (LINES[0] + "\n", "a header and no rows"),
        (TEXT[:-60], "cut short: the last line has"),
        (TEXT.encode("utf-16"), "wrong encoding: UTF-16"),
        (TEXT.replace("Infosys", "Infosÿs").encode("latin-1"), "wrong encoding: not UTF-8 at byte"),
        (TEXT + LINES[13] + "\n", "2 rows share a key, first NSE_EQ:2885"),
        (LINES[0] + "\n" + "a,b\n" * 200, "cannot be read"),
        ("\n".join([LINES[0], *(line for line in LINES if line.startswith("NSE,M"))]) + "\n", "no usable row"),
        (gzip.compress(TEXT.encode())[:-200], "packed file is cut short"),
        (zstandard.compress(TEXT.encode())[:-200], "packed file is cut short"),
        (streamed(TEXT.encode())[:-200], "packed file is cut short"),
        (b"PK\x03\x04" + b"\0" * 100, "damaged"),
    ],
)
def test_refuses_a_bad_file_and_says_why(tmp_path: Path, text: str | bytes, words: str) -> None:
    assert words in refusal(tmp_path, text)


def test_refuses_far_fewer_rows_than_in_use(tmp_path: Path) -> None:
    in_use = tmp_path / "in_use.snapshot"
    build_snapshot(SMALL, in_use)
    short = "\n".join(LINES[:40]) + "\n"
    assert "far fewer than the 97 in use" in refusal(tmp_path, short, in_use=in_use)
    build_snapshot(SMALL, tmp_path / "again.snapshot", in_use)
    assert int(map_columns(tmp_path / "again.snapshot").meta["in_use"]) == 97


def test_a_refused_file_leaves_the_registry_as_it_was(tmp_path: Path) -> None:
    registry = small_registry(tmp_path)
    for damage in (b"", b"BTMASTER", b"x" * 4096):
        bad = tmp_path / "bad.snapshot"
        bad.write_bytes(damage)
        with pytest.raises(MasterRefused):
            registry.load(bad)
    assert registry.revision == 1
    assert registry.by_token("RELIANCE_EQ").key.security_id == 2885


def test_a_damaged_snapshot_is_told(tmp_path: Path) -> None:
    good = tmp_path / "good.snapshot"
    build_snapshot(SMALL, good)
    data = bytearray(good.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "flipped.snapshot").write_bytes(data)
    (tmp_path / "short.snapshot").write_bytes(good.read_bytes()[:-64])
    (tmp_path / "newer.snapshot").write_bytes(data[:8] + b"\x63\0\0\0" + data[12:])
    for name, words in (("flipped", "checksum"), ("short", "checksum"), ("newer", "version 99"), ("none", "mapped")):
        with pytest.raises(MasterRefused, match=words):
            map_columns(tmp_path / f"{name}.snapshot")


def test_a_snapshot_replaced_under_a_reader_stays_readable(tmp_path: Path) -> None:
    registry = small_registry(tmp_path)
    (tmp_path / f"{SMALL.name}.snapshot").unlink()
    build_snapshot(SMALL, tmp_path / f"{SMALL.name}.snapshot")
    assert registry.by_token("INFY_EQ").name == "Infosys"


def test_runs_as_a_program(tmp_path: Path) -> None:
    module = "app.market.instrument_master.scrip_csv"
    done = subprocess.run(
        [sys.executable, "-m", module, str(SMALL), str(tmp_path / "a.snapshot")], cwd=ROOT, capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert map_columns(tmp_path / "a.snapshot").meta["rows"] == len(LINES) - 1
    (tmp_path / "bad.csv").write_text("nothing\n")
    done = subprocess.run(
        [sys.executable, "-m", module, str(tmp_path / "bad.csv"), str(tmp_path / "b.snapshot")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("bad.csv: not an instrument master: columns missing")
    assert list(tmp_path.glob("*b.snapshot*")) == []
