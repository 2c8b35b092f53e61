"""CSV as RFC 4180 has it, written as it is sent. A text that a spreadsheet would take for a formula is quoted."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence

from starlette.responses import StreamingResponse

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")

Cell = object
Line = Sequence[Cell]


class CsvAnswer(StreamingResponse):
    media_type = "text/csv"


def csv_answer(name: str, head: Line, parts: AsyncIterable[Iterable[Line]]) -> CsvAnswer:
    """A download called ``name``; ``parts`` are runs of lines, each written when the one before has left."""
    return CsvAnswer(_written(head, parts), headers={"Content-Disposition": f'attachment; filename="{name}"'})


async def _written(head: Line, parts: AsyncIterable[Iterable[Line]]) -> AsyncIterator[bytes]:
    yield csv_bytes([head])
    async for part in parts:
        yield csv_bytes(part)


def csv_bytes(lines: Iterable[Line]) -> bytes:
    """None is an empty cell."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows([_harmless(cell) for cell in line] for line in lines)
    return text.getvalue().encode()


def _harmless(cell: Cell) -> Cell:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA_STARTS) else cell
