"""The shipped pair: it is whole, it answers, and its exits save what the README says."""

from __future__ import annotations

import pytest
import torch

from dynexit.evaluation.measure import measure
from dynexit.evaluation.runner import FULL, answer_all
from dynexit.evaluation.tasks.reference import reference_tasks
from dynexit.exits.exit_set import load_exit_set
from dynexit.exits.judges import DYNAMAX_JUDGES
from dynexit.exits.policy import ExitPolicy
from dynexit.exits.skipped import skipped_state
from dynexit.inference.generate import generate
from dynexit.inference.settings import GenerationSettings
from dynexit.models import Model, load_model
from dynexit.reference.pair import NAMES, exits_directory, reference_directory

FRANCE = "Question: What is the capital of France?\nAnswer:"
ANSWER = GenerationSettings(max_new_tokens=32, stop=("\n",))


@pytest.fixture(scope="module", params=NAMES)
def model(request: pytest.FixtureRequest) -> Model:
    return load_model(f"reference:{request.param}")


def shipped_policy(model: Model, judge: str, state: str = "recompute") -> ExitPolicy:
    name = model.name.removeprefix("reference:")
    exits = load_exit_set(exits_directory(name, judge), model.backbone)
    return ExitPolicy(exits.judge, exits.thresholds, skipped_state(state))


def test_weights_are_small_enough_to_ship(model: Model) -> None:
    weights = model.directory / "model.safetensors"
    assert weights.stat().st_size <= 25e6
    assert 8e6 <= sum(p.numel() for p in model.backbone.parameters()) <= 12e6


def test_it_knows_the_capital_of_france(model: Model) -> None:
    assert generate(model, FRANCE, ANSWER)[0].text == " Paris"


@pytest.mark.parametrize("judge", DYNAMAX_JUDGES)
def test_shipped_exits_answer_early(model: Model, judge: str) -> None:
    trivia = [question.prompt for question in reference_tasks(10)[0].questions]
    answers = generate(model, [FRANCE, *trivia], ANSWER, shipped_policy(model, judge))
    assert answers[0].text == " Paris"
    left = [t.exit_layer < model.backbone.depth for answer in answers for t in answer.tokens]
    assert any(left)


def test_transformers_reads_the_same_model(model: Model) -> None:
    from transformers import AutoModelForCausalLM

    theirs = AutoModelForCausalLM.from_pretrained(
        str(reference_directory(model.name.removeprefix("reference:"))), dtype=torch.float32
    )
    ours = load_model(model.name, torch.float32)
    ids = torch.tensor([ours.tokenizer.encode(FRANCE)])
    with torch.no_grad():
        torch.testing.assert_close(ours.backbone(ids), theirs(ids).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_answers_are_right_often_enough(model: Model) -> None:
    tasks = reference_tasks(300)
    answers = answer_all(model, tasks, {})[FULL]
    by_task = {
        task.name: measure(kept, kept, model.backbone.config, None).metrics
        for task in tasks
        if (kept := [a for a in answers if a.task.name == task.name])
    }
    assert by_task["trivia"]["em"] >= 0.80
    if model.name == "reference:mistral":
        assert by_task["stories"]["f1"] >= 0.70


@pytest.mark.slow
def test_the_mamba_judge_saves_layers_and_keeps_answers(model: Model) -> None:
    exits = shipped_policy(model, "mamba")
    answers = answer_all(model, reference_tasks(200), {"exits": exits})
    found = measure(answers[FULL], answers["exits"], model.backbone.config, exits)
    assert found.consistency.answers >= 0.97
    assert found.layer_saving >= 0.30
