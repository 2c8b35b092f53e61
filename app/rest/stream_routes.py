"""What a stream topic would come to, without watching it: for clients before they subscribe, and for gateways."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from starlette.responses import Response

from app.core.errors import Forbidden, TerminalError
from app.rest import examples, limits, more_schemas
from app.rest.answers import JsonAnswer
from app.rest.auth import Principal
from app.rest.operations import Caller, Operation
from app.rest.services import Services

TopicsQuery = Annotated[list[str], Query(alias="topic", min_length=1, max_length=limits.TOPICS_MAX)]

WatchingQuery = Annotated[bool, Query(description="the caller is about to watch them: counted as a viewer")]


class StreamRoutes:
    def __init__(self, services: Services) -> None:
        self._services = services

    def operations(self) -> list[Operation]:
        return [
            Operation(
                0, "GET", "/stream/topics", self.stream_topics, more_schemas.TopicVerdicts,
                "Which stream topics the caller may watch, by their canonical names", examples.TOPIC_VERDICTS,
                (Forbidden,), query="/stream/topics?topic=chain:NIFTY50:26FEB2026&topic=quotes:NOSUCH_EQ",
            )
        ]  # fmt: skip

    async def stream_topics(self, caller: Caller, topics: TopicsQuery, watching: WatchingQuery = False) -> Response:
        """A `code` where the topic would be refused, with what a subscribe would be told."""
        return JsonAnswer({"topics": [self._verdict(caller, asked, watching) for asked in topics]})

    def _verdict(self, caller: Principal, asked: str, watching: bool) -> dict[str, object]:
        try:
            topic = self._services.admit_topic(asked, caller.user_id, is_admin=caller.is_admin)
        except TerminalError as refused:
            told = {"code": refused.code, "detail": refused.detail, "extra": dict(refused.extra)}
            return {"asked": asked, "topic": None, **told}
        if watching:
            self._services.audience.saw(topic, caller.user_id, caller.address)
        return {"asked": asked, "topic": topic.name, "code": None, "detail": None, "extra": {}}
