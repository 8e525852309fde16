"""Whatever is sent to the REST API is answered as `/api/v1/openapi.json` says: no 5xx, no undescribed status."""

import asyncio
from collections.abc import Iterator
from typing import Any, Final

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from requests.exceptions import Timeout
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance
from tests.browser.conftest import NAMESPACE, Site

EXAMPLES: Final = 6
SECONDS: Final = 10.0
CHECKS: Final = [not_a_server_error, status_code_conformance, content_type_conformance]
NAMES: Final = {
    "robots": "mail",
    "activities": "close-day-1",
    "queues": "invoices",
    "schedules": "nightly",
    "calendars": "moscow",
    "fleets": "clerks",
}
ENDLESS: Final = {"follow", "watch"}
"""Parameters that ask for a stream: it would have no end."""
READING: Final = frozenset({"GET", "HEAD"})


def operations(raw: dict[str, Any], url: str) -> Iterator[Any]:
    """Every operation of the description."""
    schema = schemathesis.openapi.from_dict(raw)
    schema.config.update(base_url=url)
    for found in schema.get_all_operations():
        assert isinstance(found, Ok), found
        yield found.ok()


def aim(case: Any) -> None:
    """Some requests that read meet what exists; others must not, so that other tests find their office whole."""
    case.query = {key: value for key, value in (case.query or {}).items() if key not in ENDLESS}
    section = case.path.split("/")[3] if case.path.count("/") > 2 else ""
    if case.method.upper() in READING and section in NAMES and len(str(case.query)) % 2 == 0:
        known = {"namespace": NAMESPACE, "name": NAMES[section]}
        case.path_parameters = {key: known.get(key, value) for key, value in (case.path_parameters or {}).items()}


def complaints(operation: Any, token: str) -> list[str]:
    """What is wrong with the answers to a few made-up requests."""
    found: list[str] = []

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def ask(case: Any) -> None:
        aim(case)
        try:
            response = case.call(headers={"Authorization": f"Bearer {token}"}, timeout=SECONDS)
        except Timeout:
            return  # a stream that has nothing to say yet
        try:
            case.validate_response(response, checks=CHECKS)
        except (Failure, FailureGroup) as failure:
            kinds = failure.exceptions if isinstance(failure, FailureGroup) else [failure]
            found.extend(f"{case.method} {case.path}: {response.status_code}: {each!s:.200}" for each in kinds)

    ask()
    return list(dict.fromkeys(found))


@pytest.mark.timeout(240)
async def test_every_operation_answers_as_it_is_described(site: Site) -> None:
    async with site.http("boss") as http, http.get("/api/v1/openapi.json") as response:
        raw = await response.json()
    found = await asyncio.to_thread(
        lambda: [text for each in operations(raw, site.url) for text in complaints(each, site.tokens["boss"])]
    )
    assert not found, "\n" + "\n".join(found)
