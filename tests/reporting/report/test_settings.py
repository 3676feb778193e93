"""The choice of a setting, and means over seeds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dynexit.reporting.report.load import load_sweeps
from dynexit.reporting.report.settings import accuracy_name, average_seeds, choose, seed_spread
from dynexit.reporting.report.sweep import Point
from reporting.report.sweeps import write_sweep


@pytest.fixture
def point(tmp_path: Path) -> Point:
    directory = write_sweep(tmp_path, judges=("mamba",), tasks=("trivia",), n=4)
    return load_sweeps([directory])[0].points[0]


def at(point: Point, consistency: float, saving: float) -> Point:
    return replace(point, consistency={"answers": consistency}, flop_saving=saving)


def test_most_saving_of_the_consistent(point: Point) -> None:
    points = [at(point, 0.96, 0.9), at(point, 0.97, 0.5), at(point, 1.0, 0.4)]
    best = choose(points)
    assert (best.point, best.rule) == (points[1], "saving")


def test_most_consistent_where_none_is_consistent_enough(point: Point) -> None:
    points = [at(point, 0.5, 0.9), at(point, 0.9, 0.1), at(point, 0.9, 0.2)]
    best = choose(points)
    assert (best.point, best.rule) == (points[2], "consistency")


def test_exact_match_is_accuracy_where_there_is_one() -> None:
    assert accuracy_name({"f1": 0.5, "em": 0.4}) == "em"
    assert accuracy_name({"bleu_max": 0.5, "bleu_acc": 0.4}) == "bleu_max"
    assert accuracy_name({}) is None


def test_seeds_are_averaged_question_by_question(point: Point) -> None:
    one = replace(point, seeds=(0,), flop_saving=0.2, speedup=1.5)
    two = replace(
        point,
        seeds=(1,),
        flop_saving=0.4,
        speedup=None,
        questions={**point.questions, "same": [1 - s for s in point.questions["same"]]},
    )
    other = replace(point, seeds=(0,), threshold=0.123)
    mean, alone = average_seeds([one, other, two])
    assert alone == other
    assert mean.seeds == (0, 1)
    assert mean.flop_saving == pytest.approx(0.3)
    assert mean.speedup is None
    assert mean.questions["same"] == [0.5] * 4
    assert mean.questions["kind"] == point.questions["kind"]
    assert sum(mean.exit_layers.values()) == 2 * sum(point.exit_layers.values())
    spread = seed_spread([one, other, two], mean, lambda p: p.flop_saving)
    assert spread == pytest.approx(0.02**0.5)
    assert seed_spread([one, other, two], other, lambda p: p.flop_saving) is None


def test_questions_that_differ_in_number_are_left_out(point: Point) -> None:
    short = {name: column[:2] for name, column in point.questions.items()}
    (mean,) = average_seeds(
        [replace(point, seeds=(0,)), replace(point, seeds=(1,), questions=short)]
    )
    assert mean.questions == {}
