"""Golden frames: the bytes of ``docs/STREAM.md``, shared with the page's own tests.

After a meant change of the format, write them anew: ``python -m tests.unit.test_stream_frames``.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import orjson
import pytest

from app.stream.fields import FIELD_INDEX, ROW_FIELDS
from app.stream.frames import Labels, Update, dictionary, difference, to_binary, to_json
from tests.binary_frames import read_frame
from tests.stream_world import merge

WIRE = Path(__file__).parents[1] / "fixtures" / "wire"
CE, PE = "NIFTY_26FEB2026_25000CE", "NIFTY_26FEB2026_25000PE"
LABELS = Labels(
    "chain:NIFTY:26FEB2026", 7, 2, (CE, PE), about={CE: {"strike": 25000.0, "option_type": "CE", "lot_size": 75}}
)
FINE = Labels("quotes:USDINR_26FEB2026_FUT", 9, 0, ("USDINR_26FEB2026_FUT",), fine=True)
SEQ = 69_135_551_692_801
AT_MS = 1_771_993_800_250


def rows() -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    known = {
        "ltp": 182.35, "change": -12.4, "change_pct": -6.3671, "bid": 182.3, "ask": 182.4, "bid_qty": 975,
        "ask_qty": 300, "ltq": 75, "atp": 190.07, "volume": 4_100_250_000, "total_buy_qty": 500_200,
        "total_sell_qty": 600_100, "oi": 987_650, "oi_high": 999_999, "oi_low": 900_000, "oi_change": -12_350,
        "open": 201.0, "high": 214.8, "low": 171.05, "prev_close": 194.75, "ltt_ms": 1_771_993_799_000, "age_ms": 120,
        "state": 9, "iv": 12.34, "delta": 0.5312, "gamma": 0.0004277, "theta": -9.82, "vega": 17.403, "oi_basis": 1,
    }  # fmt: skip
    values = np.full((2, len(ROW_FIELDS)), np.nan)
    for name, value in known.items():
        values[0, FIELD_INDEX[name]] = value
    values[1, FIELD_INDEX["state"]], values[1, FIELD_INDEX["oi_basis"]] = 2, 0
    return values


def snapshot() -> Update:
    doc = {"summary": {"underlying_ltp": 25020.35, "pcr": None}, "coverage": {"legs": 2, "live": 1}}
    return Update(True, SEQ, AT_MS, doc, np.arange(2), rows())


def delta() -> Update:
    values = rows()[1:]
    values[0, FIELD_INDEX["ltp"]] = 99.95
    values[0, FIELD_INDEX["ltt_ms"]] = AT_MS - 250
    changed = np.zeros_like(values, dtype=np.bool_)
    for name in ("ltp", "bid", "oi_change", "ltt_ms", "iv"):
        changed[0, FIELD_INDEX[name]] = True
    return Update(False, SEQ + 1, AT_MS + 100, {"summary": {"pcr": 1.25}}, np.array([1]), values, changed)


def fine() -> Update:
    values = np.full((1, len(ROW_FIELDS)), np.nan)
    values[0, FIELD_INDEX["ltp"]], values[0, FIELD_INDEX["state"]] = 90.2575, 9
    values[0, FIELD_INDEX["oi_basis"]] = 0
    return Update(True, 5, AT_MS, {}, np.arange(1), values)


GOLDEN = {
    "stream_dictionary.bin": dictionary(LABELS),
    "stream_snapshot.bin": to_binary(LABELS, snapshot()),
    "stream_delta.bin": to_binary(LABELS, delta()),
    "stream_dictionary_fine.bin": dictionary(FINE),
    "stream_snapshot_fine.bin": to_binary(FINE, fine()),
    "stream_snapshot_json.bin": to_json(LABELS, snapshot()),
    "stream_delta_json.bin": to_json(LABELS, delta()),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name: str) -> None:
    assert GOLDEN[name] == (WIRE / name).read_bytes()


def test_packed_snapshot_reads_as_its_json() -> None:
    frame = read_frame((WIRE / "stream_snapshot.bin").read_bytes(), json.loads(GOLDEN["stream_dictionary.bin"]))
    told = orjson.loads(GOLDEN["stream_snapshot_json.bin"])
    assert (frame.is_snapshot, frame.topic_id, frame.generation, frame.seq, frame.at_ms) == (True, 7, 2, SEQ, AT_MS)
    assert frame.doc == {name: told["data"][name] for name in ("summary", "coverage")}
    for token, row in told["data"]["rows"].items():
        assert frame.rows[token] == {
            name: pytest.approx(value, rel=1e-6) if isinstance(value, float) else value for name, value in row.items()
        }


def test_packed_delta_has_the_changed_columns_only() -> None:
    frame = read_frame((WIRE / "stream_delta.bin").read_bytes(), json.loads(GOLDEN["stream_dictionary.bin"]))
    assert frame.rows == {PE: {"ltp": 99.95, "bid": None, "oi_change": None, "ltt_ms": AT_MS - 250, "iv": None}}
    assert frame.doc == {"summary": {"pcr": 1.25}}
    assert not frame.is_snapshot


def test_finer_ticks_keep_their_digits() -> None:
    frame = read_frame(
        (WIRE / "stream_snapshot_fine.bin").read_bytes(), json.loads(GOLDEN["stream_dictionary_fine.bin"])
    )
    assert frame.rows["USDINR_26FEB2026_FUT"]["ltp"] == 90.2575


def test_prices_too_dear_for_hundredths_keep_their_digits() -> None:
    update = snapshot()
    assert update.values is not None
    update.values[0, FIELD_INDEX["ltp"]] = 99_999_999.95
    frame = read_frame(to_binary(LABELS, update), json.loads(GOLDEN["stream_dictionary.bin"]))
    assert frame.rows[CE]["ltp"] == 99_999_999.95


def test_json_shows_prices_as_they_are_quoted() -> None:
    told = GOLDEN["stream_snapshot_json.bin"].decode()
    assert '"ltp":182.35,' in told
    assert '"volume":4100250000,' in told
    assert '"iv":12.34,' in told
    assert '"ltp":null' in told


def test_difference_and_merge_are_each_others_inverse() -> None:
    old = {"summary": {"pcr": 1.0, "iv": 12.0}, "n": 1, "gone": 5}
    new = {"summary": {"pcr": None, "iv": 12.0}, "n": 1, "list": [1, 2]}
    step = difference(old, new)
    assert step == {"gone": None, "summary": {"pcr": None}, "list": [1, 2]}
    assert merge(old, step) == {**new, "gone": None}
    assert difference(new, new) == {}


if __name__ == "__main__":
    for name, content in GOLDEN.items():
        (WIRE / name).write_bytes(content)
