"""Losses by threshold: equal to those of decoding everything, and resumed where they stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dynexit.evaluation.losses import TEXTUAL
from dynexit.evaluation.risk import RiskCurve
from dynexit.evaluation.runner import Answer, answer_in_batches
from dynexit.evaluation.tasks.reference import reference_tasks
from dynexit.evaluation.tasks.task import Task
from dynexit.exits.judges import build_judge
from dynexit.exits.policy import ExitPolicy
from dynexit.exits.skipped import skipped_state
from dynexit.models import Model

LAYERS = (2, 3)


@contextmanager
def uncounted(title: str, total: int) -> Iterator[Callable[[], None]]:
    yield lambda: None


@pytest.fixture(scope="module")
def tasks() -> list[Task]:
    short = [task for task in reference_tasks(limit=4, seed=3) if task.name != "stories"]
    return [replace(task, max_new_tokens=5) for task in short]


def policy(model: Model, kind: str, state: str) -> ExitPolicy:
    torch.manual_seed(4)
    judge = build_judge(kind, LAYERS, model.backbone.config.hidden)
    return ExitPolicy(judge, (0.5,) * len(LAYERS), skipped_state(state))


@pytest.mark.parametrize("state", ["recompute", "propagate"])
@pytest.mark.parametrize("kind", ["mamba", "top-probability"])
def test_equals_decoding_everything(model: Model, tasks: list[Task], kind: str, state: str) -> None:
    curve = RiskCurve(model, tasks, policy(model, kind, state), uncounted)
    asked = [(task, question) for task in tasks for question in task.questions]
    full = answer_in_batches(model, tasks, None)
    assert [g.ids for g in curve.full] == [g.ids for g in full]
    means = []
    for threshold in (1.5, 0.6, 0.5, 0.01):
        early = answer_in_batches(model, tasks, curve.at(threshold))
        for loss in TEXTUAL.values():
            wanted = [
                loss(Answer(*question, a), Answer(*question, b))
                for question, a, b in zip(asked, full, early, strict=True)
            ]
            assert curve.losses(loss, threshold) == wanted
        found = curve.generations(threshold)
        assert [[t.exit_layer for t in g.tokens] for g in found] == [
            [t.exit_layer for t in g.tokens] for g in early
        ]
        means.append(sum(curve.losses(TEXTUAL["answer"], threshold)))
    assert means[0] == 0.0  # never reached
    assert max(means) > 0.0


def test_goes_on_from_a_torn_journal(model: Model, tasks: list[Task], tmp_path: Path) -> None:
    journal, way = tmp_path / "work" / "answers.jsonl", policy(model, "mamba", "propagate")
    first = RiskCurve(model, tasks, way, uncounted, journal)
    losses = first.losses(TEXTUAL["text"], 0.5)
    lines = journal.read_text().splitlines(keepends=True)
    assert len(lines) == 2 * first.n
    journal.write_text("".join(lines[:-2]) + lines[-2][:40])  # killed while writing
    again = RiskCurve(model, tasks, way, uncounted, journal)
    assert again.full == first.full  # with their times: they were not decoded again
    assert again.losses(TEXTUAL["text"], 0.5) == losses
    assert [g.ids for g in again.generations(0.5)] == [g.ids for g in first.generations(0.5)]
    kept = [a == b for a, b in zip(again.generations(0.5), first.generations(0.5), strict=True)]
    assert kept.count(False) == 2
    assert len(journal.read_text().splitlines()) == 2 * first.n
