"""The composition root: the only place that calls constructors of owners and adapters."""

from __future__ import annotations

from app.runtime.build import Runtime, build, build_in_memory

__all__ = ["Runtime", "build", "build_in_memory"]
