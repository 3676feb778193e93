"""Whole tasks on a model: skipped questions, kinds, choice tasks, histories."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dynexit.errors import UserError
from dynexit.evaluation.results import run_tasks
from dynexit.evaluation.tasks import Task, load_tasks
from dynexit.models import Model
from dynexit.models.loading import load_model
from evaluation.official import story, write_coqa, write_truthfulqa


@pytest.fixture(scope="module")
def reference() -> Model:
    return load_model("reference:mistral")


def coqa(directory: Path, history: str = "gold") -> dict[str, list[Task]]:
    asked = load_tasks(["coqa"], data=directory, history=history)
    return {"coqa": [replace(task, max_new_tokens=4) for task in asked["coqa"]]}


@pytest.mark.parametrize("history", ["gold", "own"])
def test_domains_and_what_does_not_fit(reference: Model, tmp_path: Path, history: str) -> None:
    endless = story("s3", "race")
    endless["questions"][1]["input_text"] = "why " * 2000
    long = story("s2", "cnn") | {"story": "Once upon a time there was a cat. " * 200}
    write_coqa(tmp_path, [story(), long, endless])
    ticks: list[None] = []
    asked = coqa(tmp_path, history)
    found = run_tasks(reference, asked, None, lambda: ticks.append(None), batch=4)["coqa"]
    assert len(ticks) == 9
    left = {"gold": 8, "own": 7}[history]  # a gold prompt is cut, and can go on after the long turn
    assert (found.found.n, found.skipped) == (left, 9 - left)
    assert {kind: scores["n"] for kind, scores in found.kinds.items()} == {
        "cnn": 3,
        "mctest": 3,
        "race": left - 6,
    }
    mean = sum(s["n"] * s["f1"] for s in found.kinds.values()) / left
    assert found.found.metrics["f1"] == pytest.approx(mean)


def test_nothing_fits(reference: Model, tmp_path: Path) -> None:
    one = story()
    for question in one["questions"]:
        question["input_text"] = "why " * 2000
    write_coqa(tmp_path, [one])
    with pytest.raises(UserError, match="task coqa: no question fits the context"):
        run_tasks(reference, coqa(tmp_path), None)


def test_choices_are_weighed(reference: Model, tmp_path: Path) -> None:
    write_truthfulqa(tmp_path)
    asked = load_tasks(["truthfulqa_mc"], data=tmp_path)
    found = run_tasks(reference, asked, None)["truthfulqa_mc"]
    assert found.found.n == 2
    assert set(found.found.metrics) == {"mc1", "mc2"}
    assert found.found.metrics == found.found.full_metrics
    assert set(found.kinds) == {"Nutrition", "Science"}
