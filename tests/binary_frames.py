"""Packed frames read back as a client does, from the words of ``docs/STREAM.md`` and not from the encoder."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any

NARROW = {"price": "i", "count": "I", "code": "I", "real": "f"}
UNKNOWN = {"i": -(2**31), "I": 2**32 - 1}


@dataclass(frozen=True)
class Frame:
    is_snapshot: bool
    topic_id: int
    generation: int
    seq: int
    at_ms: int
    rows: dict[str, dict[str, Any]]
    doc: dict[str, Any]


def read_frame(frame: bytes, dictionary: dict[str, Any]) -> Frame:
    version, kind, flags, topic_id, generation, count, seq, at_ms, mask, tail = struct.unpack_from("<BBHIIIddII", frame)
    assert version == 1
    assert len(frame) % 4 == 0
    at = 40
    numbers = struct.unpack_from(f"<{count}I", frame, at)
    at += 4 * count
    present = [place for place in range(len(dictionary["fields"])) if mask >> place & 1]
    wide = [place for place in present if _is_wide(dictionary["kinds"][place], flags)]
    cells: dict[int, list[Any]] = {}
    for place in present:
        if place not in wide:
            code = NARROW[dictionary["kinds"][place]]
            cells[place] = [
                _plain(value, code, place, dictionary) for value in struct.unpack_from(f"<{count}{code}", frame, at)
            ]
            at += 4 * count
    at += -at % 8
    for place in wide:
        whole = dictionary["kinds"][place] != "price"
        values = struct.unpack_from(f"<{count}d", frame, at)
        cells[place] = [None if value != value else int(value) if whole else value for value in values]
        at += 8 * count
    doc = json.loads(frame[at : at + tail]) if tail else {}
    assert at + tail + (-tail % 4) == len(frame)
    rows = {
        dictionary["rows"][number]: {dictionary["fields"][place]: cells[place][i] for place in present}
        for i, number in enumerate(numbers)
    }
    return Frame(kind == 1, topic_id, generation, int(seq), int(at_ms), rows, doc)


def _is_wide(kind: str, flags: int) -> bool:
    return kind in ("signed", "moment") or (kind == "price" and bool(flags & 1))


def _plain(value: Any, code: str, place: int, dictionary: dict[str, Any]) -> Any:
    if value != value or value == UNKNOWN.get(code):
        return None
    if dictionary["kinds"][place] == "code":
        return dictionary["codes"][dictionary["fields"][place]][value]
    return value / 100 if code == "i" else value
