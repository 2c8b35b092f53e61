"""Whatever the OpenAPI document allows, and what it does not, sent to the real service: ``python -m tests.api_fuzz``.

Every operation gets requests made from its schema, right ones and wrong ones by turns, some with names that are listed.
Each answer is held to the document: its status, media type, headers and body, and to refusing what is wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import CHECKS

from tests.durability.small_service import UNIVERSE
from tests.service import Service

# Authentication is optional on loopback and tried elsewhere; what fits the schema may still name what is not listed.
EXCLUDED = ("ignored_auth", "positive_data_acceptance")
LISTED: Mapping[str, tuple[object, ...]] = {
    "symbol": ("RELIANCE", "nifty 50", "M&M", "CRUDEOIL", "GOLD", "USDINR"),
    "expiry": ("24FEB2026", "2026-02-26", "26-FEB-2026", "10FEB2026"),
    "token": ("RELIANCE_EQ", "GOLD_FUT", "NIFTY_IDX", "RELIANCE_24FEB2026_2640CE", "NSE_EQ:2885"),
    "user_id": (1, 2, 3),
    "list": ("default", "swing"),
    "name": ("swing", "day"),
    "underlying_ltp": (2641.5, 25_000.0, 0.05),
    "topic": (["chain:RELIANCE:24FEB2026"], ["quotes:RELIANCE_EQ,NIFTY_IDX", "watchlist:1"]),
    "instrument_type": ("STOCK_OPTION", "INDEX_OPTION", "EQUITY", "FUTURE", "COMMODITY_OPTION"),
}


def fuzz(url: str, examples: int, from_seed: int) -> Counter[str]:
    """Send ``examples`` right and as many wrong requests to every operation; return how many answers had which status.

    Raises:
        AssertionError: an answer breaks the document; the message has the request as a curl command.
    """
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    excluded = CHECKS.get_by_names(EXCLUDED)
    statuses: Counter[str] = Counter()
    with requests.Session() as session:
        for found in schema.get_all_operations():
            for mode in schemathesis.GenerationMode:
                _fuzz_operation(found.ok().as_strategy(mode), excluded, session, examples, from_seed, statuses)
    return statuses


def _fuzz_operation(
    cases: Any, excluded: Any, session: requests.Session, examples: int, from_seed: int, statuses: Counter[str]
) -> None:
    @seed(from_seed)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(cases, st.randoms(use_true_random=False), st.booleans())
    def send(case: Any, rng: Any, is_listed: bool) -> None:
        if is_listed and case.meta.generation.mode.is_positive:
            for part in (case.path_parameters, case.query, case.body):
                _name_what_is_listed(part, rng)
        answer = case.call(session=session)
        statuses[str(answer.status_code)] += 1
        # A body that is too large is refused before anybody looks whether it is right; the tool does not expect that.
        also = CHECKS.get_by_names(["negative_data_rejection"]) if answer.status_code == 413 else []
        case.validate_response(answer, excluded_checks=[*excluded, *also])

    with contextlib.suppress(Unsatisfiable):  # nothing can be wrong with a request that takes nothing
        send()


def _name_what_is_listed(part: Any, rng: Any) -> None:
    if isinstance(part, dict):
        for name in set(part) & set(LISTED):
            part[name] = rng.choice(LISTED[name])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=300, help="a mode and operation")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        with Service(folder / "service", settings_in(folder)) as service:
            statuses = fuzz(service.url, asked.examples, asked.seed)
    told = ", ".join(f"{status}: {count:,}" for status, count in sorted(statuses.items()))
    print(f"{statuses.total():,} requests, all as described ({told})")
    return 0


def settings_in(folder: Path) -> dict[str, str]:
    """Settings of a service with a small feed; its universe is written there."""
    universe = folder / "universe.toml"
    universe.write_text(UNIVERSE)
    return {"BT_TIER_B": str(universe)}


if __name__ == "__main__":
    sys.exit(main())
