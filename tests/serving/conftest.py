"""Servers of the reference pair."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from tests.serving.running import Running, run

from dynexit.exits.choice import Wish, choose
from dynexit.inference.chat_template import load_chat_template
from dynexit.models import Model
from dynexit.models.loading import load_model
from dynexit.reference.pair import exits_directory
from dynexit.serving.depths import Depths, load_ladder
from dynexit.serving.server import Plan


@pytest.fixture(scope="session")
def model() -> Model:
    """The reference pair's transformer in fp32, where equality is not a matter of rounding."""
    return load_model("reference:mistral", torch.float32)


@pytest.fixture(scope="session")
def depths(model: Model) -> Depths:
    choice = choose(model, Wish(judge="mamba"))
    assert choice.policy is not None
    ladder = load_ladder(
        exits_directory("mistral", "mamba"), model.backbone, choice.policy, "mamba"
    )
    return Depths(choice.policy, ladder)


@pytest.fixture(scope="session")
def plan(model: Model, depths: Depths) -> Plan:
    return Plan(model, model.name, depths, load_chat_template(model))


@pytest.fixture(scope="session")
def server(plan: Plan) -> Iterator[Running]:
    """The one that most tests ask."""
    yield from run(plan)


@pytest.fixture
def start(plan: Plan) -> Iterator[Callable[[Plan], Running]]:
    """Starts servers of other plans, and ends them with the test."""
    running: list[Iterator[Running]] = []

    def started(other: Plan) -> Running:
        running.append(run(other))
        return next(running[-1])

    yield started
    for one in running:
        assert next(one, None) is None
