"""Which exchange segments a user may see prices of, from one line of configuration. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.core.ids import Segment

ALL = frozenset(Segment)
ROLES = frozenset({"user", "admin"})


@dataclass(frozen=True, slots=True)
class SegmentRules:
    """By ``users.id`` or by role; a user's own rule wins over the role's, and where there is none, all may be seen."""

    by_user: Mapping[int, frozenset[Segment]] = field(default_factory=dict)
    by_role: Mapping[str, frozenset[Segment]] = field(default_factory=dict)

    def segments_of(self, user_id: int, role: str) -> frozenset[Segment]:
        return self.by_user.get(user_id, self.by_role.get(role, ALL))


def parse_segments(text: str) -> SegmentRules:
    """Read ``user=IDX_I,NSE_EQ,NSE_FNO; 7=all``: rules by semicolons, segments by commas; nothing means all for all.

    Raises:
        ValueError: says what is wrong with it.
    """
    by_user: dict[int, frozenset[Segment]] = {}
    by_role: dict[str, frozenset[Segment]] = {}
    for rule in filter(None, (part.strip() for part in text.split(";"))):
        whose, is_rule, named = (part.strip() for part in rule.partition("="))
        if not is_rule:
            raise ValueError(f"{rule!r} is no rule; one is user=NSE_EQ,NSE_FNO,IDX_I or 7=all")
        if whose in ROLES and whose not in by_role:
            by_role[whose] = _segments(named)
        elif whose.isascii() and whose.isdigit() and int(whose) not in by_user:
            by_user[int(whose)] = _segments(named)
        else:
            raise ValueError(f"{whose!r} is no role (user, admin) and no id of a user, or it is there twice")
    return SegmentRules(by_user, by_role)


def _segments(named: str) -> frozenset[Segment]:
    if named == "all":
        return ALL
    try:
        return frozenset(Segment[name.strip()] for name in named.split(",") if name.strip())
    except KeyError as unknown:
        raise ValueError(f"{unknown.args[0]!r} is no segment; there are {', '.join(Segment.__members__)}") from None
