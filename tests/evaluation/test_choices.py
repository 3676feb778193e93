"""Multiple choice by likelihood, at full depth and with exits."""

from __future__ import annotations

import math

import pytest
import torch

from dynexit.errors import UserError
from dynexit.evaluation.choices import measure_choices, weigh_all
from dynexit.evaluation.metrics_truthfulqa import choices
from dynexit.evaluation.runner import FULL, answer_all
from dynexit.evaluation.tasks import Task
from dynexit.evaluation.tasks.task import Question
from dynexit.exits.judges import build_judge
from dynexit.exits.policy import ExitPolicy
from dynexit.exits.skipped import skipped_state
from dynexit.models import Model

QUESTIONS = (
    Question("Q: who?\nA:", ("Tom.", "a boy."), ("Ann.",)),
    Question("Q: what colour is it?\nA:", ("red.",), ("blue.", "green.")),
)
TASK = Task(
    "mc",
    QUESTIONS,
    lambda answer, question: {},
    ("\n",),
    8,
    lambda logs, question: choices(logs, len(question.answers)),
)


def fixed(model: Model, threshold: float) -> ExitPolicy:
    judge = build_judge("fixed", (2,), model.backbone.config.hidden)
    return ExitPolicy(judge, (threshold,), skipped_state("propagate"))


def by_hand(model: Model, prompt: str, option: str) -> float:
    """The log-likelihood of an option from one pass over the whole text."""
    ids = model.tokenizer.encode(f"{prompt} {option}")
    start = len(model.tokenizer.encode(prompt))
    hidden = model.backbone.embed(torch.tensor([ids]))
    place = model.backbone.place([0], [len(ids)])
    hidden = model.backbone.run(hidden, None, 0, model.backbone.depth, place)
    logs = model.backbone.readout(hidden[0]).log_softmax(-1)
    return sum(float(logs[at - 1, ids[at]]) for at in range(start, len(ids)))


def test_equals_one_pass_over_the_text(model: Model) -> None:
    ticks: list[None] = []
    never = fixed(model, 2.0)
    weighed = weigh_all(model, [TASK], {"never": never}, lambda: ticks.append(None), batch=1)
    assert len(ticks) == 2
    for one, question in zip(weighed[FULL], QUESTIONS, strict=True):
        expected = [by_hand(model, question.prompt, option) for option in question.options]
        assert [o.total for o in one.options] == pytest.approx(expected, abs=1e-3)
        assert one.scores["mc2"] == pytest.approx(
            choices(expected, len(question.answers))["mc2"], abs=1e-3
        )
        assert one.chosen == expected.index(max(expected))
    found = measure_choices(weighed[FULL], weighed["never"], model.backbone.config, never)
    assert found.n == 2
    assert found.consistency.answers == 1.0
    assert found.layer_saving == 0.0
    assert found.metrics == pytest.approx(found.full_metrics, abs=1e-3)


def test_savings_of_exits(model: Model) -> None:
    always = fixed(model, 0.5)
    weighed = weigh_all(model, [TASK], {"always": always})
    found = measure_choices(weighed[FULL], weighed["always"], model.backbone.config, always)
    assert found.layer_saving == pytest.approx(0.5)
    assert 0 < found.flop_saving < 0.5
    assert math.isnan(found.speedup)
    assert set(found.metrics) == {"mc1", "mc2"}


def test_nothing_is_decoded(model: Model) -> None:
    with pytest.raises(UserError, match="mc is multiple choice"):
        answer_all(model, [TASK], {})
