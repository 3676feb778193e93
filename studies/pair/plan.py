"""What is compared: three sweeps of each backbone, on questions independent of each other."""

from __future__ import annotations

from dataclasses import dataclass

from dynexit.evaluation.candidates import Wanted
from dynexit.evaluation.independent import independent
from dynexit.evaluation.sweep import Grid
from dynexit.evaluation.tasks.reference import reference_tasks
from dynexit.evaluation.tasks.task import Task
from dynexit.exits.judge import default_layers

SEEDS = (0, 1, 2)
THRESHOLDS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9995, 0.9999)
LARGER_K = (2, 5, 20)
NUMBERS_OF_EXITS = (1, 2, 8)  # four are the default
FIRST_EXIT = 0.25
QUESTION_SEED = 4  # others than evaluation (0), recipe (1), demo (2) and calibration (3) ask
TURNS = 8  # more than any conversation has


@dataclass(frozen=True)
class Part:
    """One sweep, in a directory of its name."""

    name: str
    wanted: Wanted
    grid: Grid


def parts(depth: int, timed: int) -> list[Part]:
    """Judges and state policies; the relaxed labels of k above 1; how many exits there are."""
    exact = Grid(THRESHOLDS, states=("recompute",), timed=0)
    layers = tuple(default_layers(depth, count, FIRST_EXIT) for count in NUMBERS_OF_EXITS)
    return [
        Part("judges", Wanted(train=True, seeds=SEEDS), Grid(THRESHOLDS, timed=timed)),
        Part(
            "top-k",
            Wanted(judges=("linear", "mamba"), train=True, top_k=LARGER_K, seeds=SEEDS),
            exact,
        ),
        Part(
            "exits",
            Wanted(judges=("linear", "mamba"), train=True, layers=layers, seeds=SEEDS),
            exact,
        ),
    ]


def questions(limit: int) -> dict[str, list[Task]]:
    """``limit`` questions of each reference task, of a conversation one turn."""
    pool = reference_tasks(limit * TURNS, QUESTION_SEED)
    return {"reference": [independent(task, limit, QUESTION_SEED) for task in pool]}
