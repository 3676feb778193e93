"""The server against its own OpenAPI description."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance
from tests.serving.running import Running

pytestmark = pytest.mark.slow

OPERATIONS = [
    ("POST", "/v1/completions"),
    ("POST", "/v1/chat/completions"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{name}"),
    ("GET", "/health"),
    ("GET", "/metrics"),
]


@pytest.fixture(scope="module")
def schema(server: Running) -> Any:
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json")


def test_every_operation_is_tried(schema: Any) -> None:
    assert sorted((o.ok().method.upper(), o.ok().path) for o in schema.get_all_operations()) == (
        sorted(OPERATIONS)
    )


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_answers_are_as_described(schema: Any, method: str, path: str, mode: Any) -> None:
    operation = schema[path][method]
    if mode is GenerationMode.NEGATIVE and method == "GET":
        return  # nothing can be wrong with them

    @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: schemathesis.Case) -> None:
        if mode is GenerationMode.POSITIVE and isinstance(case.body, dict):
            case.body |= {"model": "reference:mistral", "max_tokens": 2, "n": 1}
            case.body.pop("max_completion_tokens", None)
        # a context, a vocabulary and certified risks are bounds that no schema tells
        case.call_and_validate(excluded_checks=[positive_data_acceptance])

    check()
