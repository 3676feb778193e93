"""Agreement along the full model's answer: as its recording says, for every state policy."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dynexit.evaluation.forced import forced_agreement
from dynexit.evaluation.measure import describe_more, measure
from dynexit.evaluation.replay import record, replays
from dynexit.evaluation.runner import Answer, answer_in_batches
from dynexit.evaluation.tasks.reference import reference_tasks
from dynexit.exits.judges import build_judge
from dynexit.exits.policy import ExitPolicy
from dynexit.exits.skipped import skipped_state
from dynexit.models import Model

LAYERS = (2, 3)


@pytest.fixture(scope="module")
def full(model: Model) -> list[Answer]:
    tasks = [replace(t, max_new_tokens=6) for t in reference_tasks(3) if t.name != "stories"]
    asked = [(task, question) for task in tasks for question in task.questions]
    made = answer_in_batches(model, tasks, None)
    return [Answer(*question, answer) for question, answer in zip(asked, made, strict=True)]


def policy(model: Model, threshold: float, state: str = "recompute") -> ExitPolicy:
    torch.manual_seed(4)
    judge = build_judge("mamba", LAYERS, model.backbone.config.hidden)
    return ExitPolicy(judge, (threshold,) * 2, skipped_state(state))


@pytest.mark.parametrize("threshold", [0.01, 0.5, 1.5])
def test_equals_the_recording(model: Model, full: list[Answer], threshold: float) -> None:
    way = policy(model, threshold)
    seen = [record(model, a.question.prompt, a.generation, LAYERS) for a in full]
    replayed = replays([way.judge], seen)[0].decode(way.thresholds)
    assert forced_agreement(model, full, way, batch=4) == [sum(one.agrees) for one in replayed]


@pytest.mark.parametrize("state", ["recompute", "propagate"])
def test_never_leaving_agrees_wholly(model: Model, full: list[Answer], state: str) -> None:
    ticks: list[None] = []
    found = forced_agreement(
        model, full, policy(model, 1.5, state), tick=lambda: ticks.append(None)
    )
    assert found == [len(answer.generation.tokens) for answer in full]
    assert len(ticks) == len(full)


def test_goes_into_the_measurement(model: Model, full: list[Answer]) -> None:
    way, config = policy(model, 0.01, "propagate"), model.backbone.config
    tasks = [replace(a.task, questions=(a.question,)) for a in full]
    made = answer_in_batches(model, tasks, way)
    early = [replace(a, generation=g) for a, g in zip(full, made, strict=True)]
    agreeing = forced_agreement(model, full, way)
    found = measure(full, early, config, way, agreeing)
    assert found.consistency.teacher_forced is not None
    # wrong tokens bring others with them only where they are fed
    assert 0.0 <= found.consistency.agreed <= found.consistency.teacher_forced <= 1.0
    told = describe_more(found)
    assert told["teacher_forced"] == sum(agreeing) / sum(len(a.generation.tokens) for a in full)
    assert set(told["consistency_by_layer"]) <= {*LAYERS, config.depth}
    assert told["divergence"]["answers"] == round(found.n * (1 - found.consistency.answers))
    prompt, answer = told["cost"]["prompt"], told["cost"]["answer"]
    assert prompt["flops"] > prompt["full_flops"] > 0  # the mamba judge reads the prompt too
    assert 1 - answer["flops"] / answer["full_flops"] == pytest.approx(found.flop_saving)
    assert 1 - answer["bytes"] / answer["full_bytes"] == pytest.approx(found.byte_saving)
