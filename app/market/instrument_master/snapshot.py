"""The columnar file that the service maps: header, version, checksum, then plain numpy columns.

::

    8 bytes   magic  b"BTMASTER"
    u32       version
    u32       length of the JSON head
    u32       CRC-32 of everything after these 24 bytes
    u32       zero
    JSON      {"meta": {...}, "columns": {name: [dtype, offset, count]}}, offsets from the payload's start
    payload   columns, each aligned to 64 bytes; the payload itself starts at a multiple of 64

Written beside its place and renamed into it, so a reader sees the old file or the new one, whole.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from app.core.errors import MasterRefused

MAGIC = b"BTMASTER"
VERSION = 2
_HEAD = struct.Struct("<8sIIII")
_ALIGN = 64

Column = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Columns:
    """A mapped snapshot. The arrays are read-only views of the file; it stays mapped while they live."""

    meta: Mapping[str, Any]
    arrays: Mapping[str, Column]


def write_columns(path: Path, meta: Mapping[str, Any], arrays: Mapping[str, Column]) -> None:
    """Write a snapshot file atomically and durably."""
    places: dict[str, tuple[str, int, int]] = {}
    offset = 0
    for name, array in arrays.items():
        places[name] = (array.dtype.str, offset, int(array.size))
        offset += _padded(array.nbytes)
    body = json.dumps({"meta": meta, "columns": places}).encode()
    body += b" " * (_padded(_HEAD.size + len(body)) - _HEAD.size - len(body))
    crc = zlib.crc32(body)
    parts: list[bytes] = [body]
    for array in arrays.values():
        data = np.ascontiguousarray(array).tobytes()
        data += b"\0" * (_padded(len(data)) - len(data))
        crc = zlib.crc32(data, crc)
        parts.append(data)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(_HEAD.pack(MAGIC, VERSION, len(body), crc, 0))
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def map_columns(path: Path) -> Columns:
    """Map a finished snapshot.

    Raises:
        MasterRefused: not a snapshot, of another version, cut short, or damaged.
    """
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise MasterRefused(f"{path.name}: cannot be mapped: {error}") from None
    if len(mapped) < _HEAD.size or mapped[: len(MAGIC)] != MAGIC:
        raise MasterRefused(f"{path.name}: not a snapshot of the instrument master")
    _, version, length, crc, _ = _HEAD.unpack(mapped[: _HEAD.size])
    if version != VERSION:
        raise MasterRefused(f"{path.name}: snapshot version {version}, this service reads {VERSION}")
    view = memoryview(mapped)
    if zlib.crc32(view[_HEAD.size :]) != crc:
        raise MasterRefused(f"{path.name}: damaged or cut short, its checksum does not match")
    # The checksum touched every page; give them back, lookups need few of them.
    mapped.madvise(mmap.MADV_DONTNEED)
    head = json.loads(mapped[_HEAD.size : _HEAD.size + length])
    start = _HEAD.size + length
    arrays = {
        name: np.frombuffer(view, dtype=np.dtype(dtype), count=count, offset=start + offset)
        for name, (dtype, offset, count) in head["columns"].items()
    }
    return Columns(head["meta"], arrays)


def _padded(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN
