"""The short import path of the user's document: ``from app.market.registry import REGISTRY``."""

from __future__ import annotations

from app.market.instrument_master.registry import REGISTRY, InstrumentRegistry

__all__ = ["REGISTRY", "InstrumentRegistry"]
