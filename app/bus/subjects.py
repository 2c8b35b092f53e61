"""Which messages a subscription asks for. Pure."""

from __future__ import annotations

BELOW = ".>"


def covers(pattern: str, subject: str) -> bool:
    """Tell whether a subscription to ``pattern`` gets ``subject``; ``a.>`` is everything below ``a``, not ``a``."""
    if pattern.endswith(BELOW):
        prefix = pattern[:-1]
        return subject.startswith(prefix) and len(subject) > len(prefix)
    return subject == pattern
