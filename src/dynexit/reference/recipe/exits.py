"""Fits the exit sets that ship beside the reference pair, one for each judge of DYNAMAX.

Thresholds are the lowest at which answers to validation questions stay the full model's often
enough; they are questions that the package's own evaluation does not ask.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

from dynexit.evaluation.replay import Recording, record, same_answer
from dynexit.evaluation.runner import answer_in_batches
from dynexit.evaluation.tasks.reference import reference_tasks
from dynexit.evaluation.thresholds import smallest_by_exit
from dynexit.exits.exit_set import ExitMetrics, load_exit_set, save_exit_set
from dynexit.exits.judge import Judge
from dynexit.exits.judges import DYNAMAX_JUDGES
from dynexit.models import Model
from dynexit.training import ExitRecipe, collect_store, fit_exits


@dataclass(frozen=True)
class ShippedExits:
    """Exits after ``layers``; ``prompts`` are decoded to train on, ``questions`` of each task to
    set thresholds on, at the smallest for which the share ``target`` of the answers is the full
    model's."""

    layers: tuple[int, ...]
    prompts: int = 600
    epochs: int = 8
    questions: int = 150
    asked_in_evaluation: int = 300
    target: float = 0.985


# Few exits, as a check costs much of a layer in models this small; where and from how many prompts
# saved most on the validation questions.
SHIPPED = {
    "mistral": ShippedExits(layers=(2, 3), prompts=2000),
    "mamba2": ShippedExits(layers=(6, 12)),
}


def fit_shipped_exits(model: Model, settings: ShippedExits, out: Path) -> list[ExitMetrics]:
    """Fit the judges of DYNAMAX on one collection and save them as ``out/JUDGE``."""
    layers = settings.layers
    recipe = ExitRecipe(layers=layers, prompts=settings.prompts, epochs=settings.epochs)
    seen = _validation(model, layers, settings)
    found: list[ExitMetrics] = []
    with TemporaryDirectory() as folder:
        work = Path(folder)
        store = collect_store(model, recipe, work)
        for kind in DYNAMAX_JUDGES:
            found += fit_exits(model, store, replace(recipe, judge=kind), work / kind, work)
            exits = load_exit_set(work / kind, model.backbone)
            thresholds = _thresholds(seen, exits.judge, settings.target)
            chosen = replace(exits, thresholds=thresholds)
            save_exit_set(out / kind, chosen, model.backbone)
    return found


def _validation(model: Model, layers: tuple[int, ...], settings: ShippedExits) -> list[Recording]:
    """The full model's answers as seen at the exits, without the evaluation's questions."""
    asked = {
        question.prompt
        for task in reference_tasks(settings.asked_in_evaluation)
        for question in task.questions
    }
    seen: list[Recording] = []
    for task in reference_tasks(2 * settings.questions, seed=2):
        fresh = [question for question in task.questions if question.prompt not in asked]
        part = replace(task, questions=tuple(fresh[: settings.questions]))
        answers = answer_in_batches(model, [part], None)
        seen += [
            record(model, question.prompt, answer, layers)
            for question, answer in zip(part.questions, answers, strict=True)
        ]
    return seen


def _thresholds(seen: list[Recording], judge: Judge, target: float) -> tuple[float, ...]:
    return smallest_by_exit(
        lambda values: fmean(same_answer(one, judge, values) for one in seen),
        len(judge.layers),
        target,
    )
