"""Bytes of an instrument file, whatever it is packed in, or a refusal that says what is wrong with them."""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from pathlib import Path

import zstandard

from app.core.errors import MasterRefused
from app.market.instrument_master.layout import Layout, recognise

SOURCE_BYTES_MAX = 1 << 30
"""A master is 35–50 MB; far more than that is a packed bomb or a wrong file."""

_HEADER_BYTES_MAX = 65_536
_PIECE_BYTES = 65_536


def read_source(path: Path) -> bytes:
    """The unpacked bytes of a ``.csv``, ``.gz``, ``.zst`` or ``.zip``; what it is is told by its first bytes.

    Raises:
        MasterRefused: unreadable, cut short, empty or absurdly large.
    """
    try:
        raw = _unpacked(path.read_bytes())
    except OSError as error:
        raise MasterRefused(f"{path.name}: cannot be read: {error.strerror or error}") from None
    except (EOFError, zlib.error, zstandard.ZstdError, zipfile.BadZipFile) as error:
        raise MasterRefused(f"{path.name}: the packed file is cut short or damaged: {error}") from None
    if not raw[:4096].strip():
        raise MasterRefused(f"{path.name}: empty")
    return raw


def _unpacked(data: bytes) -> bytes:
    if data[:2] == b"\x1f\x8b":
        return _bounded(gzip.GzipFile(fileobj=io.BytesIO(data)))
    if data[:4] == b"\x28\xb5\x2f\xfd":
        return _unpacked_zst(data)
    if data[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [name for name in archive.namelist() if name.lower().endswith(".csv")]
            if len(members) != 1:
                raise MasterRefused(f"the zip holds {len(members)} CSV files, not one")
            return _bounded(archive.open(members[0]))
    return data


def _bounded(stream: io.BufferedIOBase | io.RawIOBase | object) -> bytes:
    raw: bytes = stream.read(SOURCE_BYTES_MAX + 1)  # type: ignore[union-attr]
    if len(raw) > SOURCE_BYTES_MAX:
        raise MasterRefused(f"larger than {SOURCE_BYTES_MAX >> 20} MiB when unpacked")
    return raw


def _unpacked_zst(data: bytes) -> bytes:
    """Frame by frame, a bounded piece at a time: zstd's own reader takes a stream that ends early for complete."""
    parts: list[bytes] = []
    size, frame = 0, zstandard.ZstdDecompressor().decompressobj()
    waiting = [data[start : start + _PIECE_BYTES] for start in range(0, len(data), _PIECE_BYTES)][::-1]
    while waiting:
        if frame.eof:
            frame = zstandard.ZstdDecompressor().decompressobj()
        parts.append(frame.decompress(waiting.pop()))
        size += len(parts[-1])
        if size > SOURCE_BYTES_MAX:
            raise MasterRefused(f"larger than {SOURCE_BYTES_MAX >> 20} MiB when unpacked")
        if frame.unused_data:
            waiting.append(frame.unused_data)
    if not frame.eof:
        raise EOFError("the last frame does not end")
    return b"".join(parts)


def check_text(raw: bytes, name: str) -> Layout:
    """Judge encoding, header and tail of the unpacked bytes.

    Raises:
        MasterRefused: not UTF-8, not CSV, core columns missing, no rows, or the last line cut short.
    """
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in raw[:4096]:
        raise MasterRefused(f"{name}: wrong encoding: UTF-16 or binary, UTF-8 is expected")
    if not raw.isascii():
        try:
            raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise MasterRefused(f"{name}: wrong encoding: not UTF-8 at byte {error.start}") from None
    header = raw[:_HEADER_BYTES_MAX].split(b"\n", 1)[0].decode("utf-8-sig", "replace").rstrip("\r")
    layout = recognise(header.split(","))
    if isinstance(layout, list):
        missing = ", ".join(layout)
        raise MasterRefused(f"{name}: not an instrument master: columns missing: {missing}", problems=layout)
    end = len(raw)
    while raw[end - 1] in b"\r\n":
        end -= 1
    last = raw[raw.rfind(b"\n", 0, end) + 1 : end]
    if len(last) == end:
        raise MasterRefused(f"{name}: a header and no rows")
    if raw[-1:] != b"\n" and last.count(b",") < layout.width - 2:
        raise MasterRefused(f"{name}: cut short: the last line has {last.count(b',') + 1} of {layout.width} columns")
    return layout
