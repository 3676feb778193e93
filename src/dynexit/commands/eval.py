"""``dynexit eval``: accuracy, consistency, savings and speedup on tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from dynexit.commands.options import (
    DataDir,
    Dtype,
    ExitLayer,
    Exits,
    Json,
    Judge,
    Layers,
    Limit,
    Model,
    State,
    Threshold,
    names,
    whole_numbers,
)
from dynexit.commands.output import counting, out, print_json
from dynexit.commands.policy import REFERENCE, REFERENCE_JUDGE, Choice, Wish, choose, load

if TYPE_CHECKING:
    from dynexit.evaluation.measure import Measurement
    from dynexit.evaluation.tasks import Task
    from dynexit.models.loading import Model as LoadedModel

WAY = "early"


def evaluate(
    model: Model,
    tasks: Annotated[
        str, typer.Option("--tasks", metavar="NAME,..", help="What to ask: reference.")
    ] = "reference",
    limit: Limit = None,
    exits: Exits = None,
    judge: Judge = None,
    threshold: Threshold = None,
    exit_layer: ExitLayer = None,
    layers: Layers = None,
    state: State = "recompute",
    data_dir: DataDir = None,
    dtype: Dtype = None,
    json: Json = False,
) -> None:
    """Answer the questions of tasks with exits and with the full model, and compare.

    Both decode every question in one run, one text at a time. The reference models use their own
    exit set of the mamba judge where no judge is named; --judge none measures full depth alone.
    The reference task stands for trivia, stories and misconceptions, 100 questions each.

    Example: `dynexit eval reference:mamba2 --limit 20`
    """
    from dynexit.evaluation.tasks import load_tasks

    asked = load_tasks(names(tasks), limit, data_dir)
    unsaid = exits is None and judge is None and exit_layer is None
    if unsaid and layers is None and model.startswith(REFERENCE):
        judge = REFERENCE_JUDGE
    chosen = None if layers is None else whole_numbers("--layers", layers)
    wish = Wish(exits, judge, threshold, exit_layer, chosen, state)
    loaded = load(model, dtype)
    choice = choose(loaded, wish)
    results = _run(loaded, asked, choice)
    if json:
        print_json(
            {
                "model": model,
                "judge": choice.judge,
                "state": choice.state,
                "threshold": choice.threshold,
                "tasks": {name: describe(found) for name, found in results.items()},
            }
        )
    else:
        from dynexit.reporting.tables import task_table

        out().print(f"{model}, judge {choice.judge}, state {choice.state}", style="bold")
        out().print(task_table(results))


def _run(
    model: LoadedModel, asked: dict[str, list[Task]], choice: Choice
) -> dict[str, Measurement]:
    """Results by task; a name that stands for several has theirs before its own over all."""
    from dynexit.evaluation.measure import measure
    from dynexit.evaluation.runner import FULL, answer_all

    policies = {} if choice.policy is None else {WAY: choice.policy}
    early = WAY if policies else FULL
    total = sum(len(task.questions) for parts in asked.values() for task in parts)
    results: dict[str, Measurement] = {}
    with counting(f"{model.name}: answering", total) as tick:
        for name, parts in asked.items():
            answers = answer_all(model, parts, policies, tick)
            parts_of = {task.name: {task.name} for task in parts}
            groups = parts_of | {name: {task.name for task in parts}}
            for group, members in groups.items():
                full, ours = (
                    [a for a in answers[way] if a.task.name in members] for way in (FULL, early)
                )
                results[group] = measure(full, ours, model.backbone.config, choice.policy)
    return results


def describe(found: Measurement) -> dict[str, Any]:
    """A measurement as ``--json`` prints it; ``consistency`` is that of whole answers."""
    return {
        "n": found.n,
        "metrics": found.metrics,
        "full_metrics": found.full_metrics,
        "levels": found.levels,
        "consistency": found.consistency.answers,
        "token_consistency": found.consistency.tokens,
        "agreed_tokens": found.consistency.agreed,
        "layer_saving": found.layer_saving,
        "flop_saving": found.flop_saving,
        "byte_saving": found.byte_saving,
        "speedup": found.speedup,
        "tokens_per_second": found.tokens_per_second,
    }
