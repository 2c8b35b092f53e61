"""Which worker runs what when the tests run in two processes."""

from __future__ import annotations

from xdist.scheduler import LoadFileScheduling

# Browser, service and simulator together fill a core: they keep out of each other's way in one worker.
WHOLE_SERVICES = ("tests/e2e/", "tests/catalogue/", "tests/acceptance/")


class OneDeskAtATime(LoadFileScheduling):
    """Files go to whoever is free; the tests on whole services are one lot."""

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(WHOLE_SERVICES):
            return "whole services"
        return super()._split_scope(nodeid)
