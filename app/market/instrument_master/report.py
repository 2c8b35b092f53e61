"""What a registry holds and what it left out, for people and for the admin endpoint. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date


@dataclass(frozen=True, slots=True)
class RegistryReport:
    """One loaded master.

    ``rows`` counts the data rows of the file; ``file_rows`` splits them by segment (``NSE/M`` where no feed code
    exists). ``by_segment`` counts what is in use. ``left_out`` gives every other row's reason; the two sums and the
    rows agree.
    """

    source: str
    layout: str
    rows: int
    in_use: int
    symbols: int
    file_rows: Mapping[str, int] = field(default_factory=dict)
    by_segment: Mapping[str, int] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    day: date | None = None  # the day the expired rows were told by

    def as_dict(self) -> dict[str, object]:
        """JSON form of the admin endpoint."""
        return {
            "source": self.source,
            "layout": self.layout,
            "date": self.day.isoformat() if self.day else None,
            "rows": self.rows,
            "in_use": self.in_use,
            "symbols": self.symbols,
            "file_rows": dict(self.file_rows),
            "rows_by_segment": dict(self.by_segment),
            "left_out": dict(self.left_out),
        }
