"""``dynexit eval``: accuracy, consistency, savings and speedup on tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dynexit.commands.loading import load, load_stage, own_device
from dynexit.commands.options import (
    DataDir,
    DecideEvery,
    Device,
    Dtype,
    ExitLayer,
    Exits,
    Json,
    Judge,
    Layers,
    Limit,
    Lossless,
    MaxDraft,
    Model,
    Risk,
    Screen,
    State,
    Strict,
    Threshold,
    VerifyBelow,
    VerifyEvery,
    drafting_settings,
    names,
    whole_numbers,
)
from dynexit.commands.output import counting, note, out, print_json, said_by_first
from dynexit.evaluation.certified import certified_drafting, choose_certified
from dynexit.exits.choice import REFERENCE, REFERENCE_JUDGE, Choice, Wish

if TYPE_CHECKING:
    from dynexit.evaluation.results import Result
    from dynexit.evaluation.tasks import Task
    from dynexit.inference.speculative.settings import Lossless as LosslessSettings
    from dynexit.models.loading import Model as LoadedModel
    from dynexit.workers import Workers

QUESTIONS, LAYERS = "questions", "layers"
OWN = "reference"  # the task the reference models were trained for
CAUTION = (
    "the reference models know only their own small corpus: their scores on official tasks mean "
    "nothing, only consistency and savings do"
)


def evaluate(
    model: Model,
    tasks: Annotated[
        str,
        typer.Option(
            "--tasks",
            metavar="NAME,..",
            help="What to ask: reference, truthfulqa, truthfulqa_mc, coqa, triviaqa, "
            "triviaqa_evidence.",
        ),
    ] = "reference",
    limit: Limit = None,
    batch: Annotated[
        int,
        typer.Option("--batch", metavar="N", help="Decode N questions at once: much faster."),
    ] = 1,
    history: Annotated[
        str,
        typer.Option(
            "--history",
            metavar="NAME",
            help="Earlier turns of a conversation hold the gold answers, or the model's own.",
        ),
    ] = "gold",
    exits: Exits = None,
    judge: Judge = None,
    threshold: Threshold = None,
    risk: Risk = None,
    exit_layer: ExitLayer = None,
    layers: Layers = None,
    state: State = "recompute",
    decide_every: DecideEvery = 1,
    screen: Screen = None,
    lossless: Lossless = False,
    max_draft: MaxDraft = None,
    strict: Strict = False,
    verify_every: VerifyEvery = None,
    verify_below: VerifyBelow = None,
    data_dir: DataDir = None,
    share: Annotated[
        str,
        typer.Option(
            "--share",
            metavar="WHAT",
            help="What processes started by torchrun share: questions, or the layers of a model "
            "that is too large for one.",
        ),
    ] = QUESTIONS,
    dtype: Dtype = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Answer the questions of tasks with exits and with the full model, and compare.

    Both decode every question in one run, one text at a time or in batches. The reference models
    use their own exit set of the mamba judge where no judge is named; --judge none measures full
    depth alone. The reference task stands for trivia, stories and misconceptions, 100 questions
    each. The other tasks read the official files in --data-dir (TruthfulQA.csv,
    coqa-dev-v1.0.json, web-dev.json or unfiltered-web-dev.json), or without it the hub. With
    --lossless the exits only draft, and the answers are the full model's.

    Example: `dynexit eval reference:mamba2 --limit 20`

    Several workers: `torchrun --nproc-per-node 2 -m dynexit eval MODEL`

    Example: `dynexit eval DIR --exits EXITS --tasks coqa,triviaqa --data-dir official --batch 32`
    """
    from dynexit.errors import UserError
    from dynexit.evaluation.tasks import load_tasks
    from dynexit.workers import ALONE, joined_workers

    if share not in (QUESTIONS, LAYERS):
        raise UserError(f"--share {share!r}: workers share {QUESTIONS} or {LAYERS}")
    if batch < 1:
        raise UserError(f"--batch {batch}: at least 1 question is decoded at once")
    asked = load_tasks(names(tasks), limit, data_dir, history)
    unsaid = exits is None and judge is None and exit_layer is None
    if unsaid and layers is None and model.startswith(REFERENCE):
        judge = REFERENCE_JUDGE
    chosen = None if layers is None else whole_numbers("--layers", layers)
    how = drafting_settings(lossless, max_draft, strict, verify_every, verify_below)
    wish = Wish(exits, judge, threshold, exit_layer, chosen, state, decide_every, screen, lossless)
    with joined_workers() as workers, said_by_first(workers):
        if share == LAYERS:
            loaded, sharing = load_stage(model, dtype, device, workers), ALONE
        else:
            loaded, sharing = load(model, dtype, own_device(device, workers)), workers
        choice = choose_certified(loaded, wish, risk)
        how = certified_drafting(choice, how)
        caution = {"note": CAUTION} if model.startswith(REFERENCE) and set(asked) - {OWN} else {}
        for line in caution.values():
            note(line)
        results = _run(loaded, asked, choice, how, batch, sharing)
        if not json:
            _show(model, choice, results)
            return
        print_json(
            {
                "model": model,
                "judge": choice.judge,
                "state": choice.state,
                "threshold": choice.threshold,
                "batch": batch,
                **_said(how),
                "tasks": {name: describe(result, how) for name, result in results.items()},
                **caution,
            }
        )


def _show(model: str, choice: Choice, results: Mapping[str, Result]) -> None:
    from dynexit.reporting.tables import percent, task_table

    out().print(f"{model}, judge {choice.judge}, state {choice.state}", style="bold")
    out().print(task_table({name: result.found for name, result in results.items()}))
    for name, result in results.items():
        if (drafting := result.found.drafting) is not None:
            out().print(
                f"{name}: {percent(drafting.acceptance_rate)} of {drafting.drafts} drafts "
                f"accepted, {drafting.mean_acceptance_length:.1f} at a time"
            )
        if result.skipped:
            note(f"{name}: {result.skipped} questions do not fit the context and are left out")


def _run(
    model: LoadedModel,
    asked: dict[str, list[Task]],
    choice: Choice,
    how: LosslessSettings | None,
    batch: int,
    workers: Workers,
) -> dict[str, Result]:
    from dynexit.evaluation.results import run_tasks
    from dynexit.evaluation.ways import way_of

    total = sum(len(task.questions) for parts in asked.values() for task in parts)
    with counting(f"{model.name}: answering", total) as tick:
        return run_tasks(model, asked, way_of(choice.policy, how), tick, batch, workers)


def _said(how: LosslessSettings | None) -> dict[str, Any]:
    """Which drafts are verified, where exits draft."""
    return {} if how is None else {"lossless": how.exact, "verify_below": how.verify_below}


def describe(result: Result, how: LosslessSettings | None) -> dict[str, Any]:
    """A result as ``--json`` prints it; ``consistency`` is that of whole answers. What became of
    drafts is there in lossless mode."""
    from dynexit.evaluation.measure import describe_more
    from dynexit.evaluation.ways import describe_drafting

    found = result.found
    return {
        "n": found.n,
        "skipped": result.skipped,
        "metrics": found.metrics,
        "full_metrics": found.full_metrics,
        "levels": found.levels,
        "kinds": result.kinds,
        "consistency": found.consistency.answers,
        "token_consistency": found.consistency.tokens,
        "agreed_tokens": found.consistency.agreed,
        "layer_saving": found.layer_saving,
        "flop_saving": found.flop_saving,
        "byte_saving": found.byte_saving,
        "speedup": found.speedup,
        "tokens_per_second": found.tokens_per_second,
        **({} if how is None else describe_drafting(found.drafting)),
        **describe_more(found),
    }
