"""Answers of endpoints beside the contract's sixteen."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from app.rest.schemas import Answer


class ChainBars(Answer):
    straddle: list[float | None]
    atm_iv: list[float | None]
    ce_oi: list[float | None]
    pe_oi: list[float | None]
    pcr: list[float | None]


class Bars(Answer):
    symbol: str
    underlying: str
    exchange: str
    expiry: str | None
    day: str | None = Field(description="of the session; null when nothing is kept")
    interval_ms: int
    start_ms: int
    count: int
    partial: bool = Field(description="the last minute still runs")
    open: list[float | None]
    high: list[float | None]
    low: list[float | None]
    close: list[float | None]
    chain: ChainBars | None = Field(description="at the end of each minute; null without an expiry")


class TopicVerdict(Answer):
    asked: str
    topic: str | None
    code: str | None
    detail: str | None
    extra: dict[str, Any]


class TopicVerdicts(Answer):
    topics: list[TopicVerdict]
