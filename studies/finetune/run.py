"""What fine-tuning with early exit does to the exits of the reference pair.

    python studies/finetune/run.py

fine-tunes each model of the pair in several ways, on texts like those that it was trained on, and
writes ``tables.md`` and ``results.json`` beside this file. Stopped at any moment, the same command
goes on where it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import typer
from ways import ORDINARY, measured_ways

from dynexit.commands.output import note
from dynexit.errors import UserError
from dynexit.evaluation.consistency import consistency
from dynexit.evaluation.runner import FULL, answer_all, answer_in_batches
from dynexit.evaluation.tasks import Task
from dynexit.evaluation.tasks.reference import reference_tasks
from dynexit.evaluation.thresholds import smallest_consistent
from dynexit.exits.judges import build_judge
from dynexit.exits.policy import ExitPolicy
from dynexit.exits.skipped import skipped_state
from dynexit.files import atomic_path, write_json
from dynexit.inference.generation import Generation
from dynexit.models import Model
from dynexit.reference.pair import NAMES
from dynexit.training.finetune import FinetuneRecipe

HERE = Path(__file__).parent
KEPT = 0.97  # of the answers
SHARES = (1 / 12, 1 / 6, 1 / 4, 1 / 3, 1 / 2, 2 / 3)  # of the depth, after which tokens may leave


def arms(steps: int) -> dict[str, FinetuneRecipe]:
    """The ways by name; ``frozen`` is the model as it is shipped."""
    early = FinetuneRecipe(steps=steps, batch=8, length=256, rate=3e-4, held_out=400)
    return {
        "ordinary": replace(early, **ORDINARY),
        "early exit": early,
        "early exit, LoRA 8": replace(early, lora=8, rate=3e-3),
    }


def main(
    work: Annotated[Path, typer.Option(help="where checkpoints and rows are kept")] = Path(
        "runs/finetune"
    ),
    out: Annotated[Path, typer.Option(help="where the study's files go")] = HERE,
    model: Annotated[str, typer.Option(help="mistral, mamba2 or both")] = "both",
    steps: Annotated[int, typer.Option(help="of each way")] = 200,
    limit: Annotated[int, typer.Option(help="questions of each task")] = 100,
) -> None:
    """Run all that is missing, then write the tables."""
    try:
        names = NAMES if model == "both" else (model,)
        found = {name: dict(study(name, work / name, steps, limit)) for name in names}
        write_json(out / "results.json", found)
        with atomic_path(out / "tables.md") as temporary:
            temporary.write_text("\n".join(sections(found, steps)), encoding="utf-8")
    except UserError as error:
        note(f"study: {error}")
        raise typer.Exit(2) from None


def study(name: str, work: Path, steps: int, limit: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """A row for each way, the frozen model first."""
    model = f"reference:{name}"
    yield from measured_ways(model, None, arms(steps), work, lambda one: asked(one, limit))


def asked(model: Model, limit: int) -> dict[str, Any]:
    """Exact answers at full depth, and what exits save with entropy for a judge: the threshold is
    the lowest that keeps enough answers to half of the questions, told is of the other half."""
    tasks = reference_tasks(2 * limit)
    halves = [[_part(task, side) for task in tasks] for side in range(2)]
    full = [answer_in_batches(model, half, None) for half in halves]

    def decode(side: int, threshold: float) -> list[Generation]:
        return answer_in_batches(model, halves[side], _policy(model, threshold))

    def kept(side: int, early: Sequence[Generation]) -> float:
        return consistency([g.ids for g in full[side]], [g.ids for g in early]).answers

    threshold = smallest_consistent(lambda t: kept(0, decode(0, t)), KEPT)
    early = full[1] if threshold is None else decode(1, threshold)
    layers = [token.exit_layer for g in early for token in g.tokens]
    return {
        "exact": fmean(float(score) for score in _exact(model, halves[1])),
        "threshold": threshold,
        "consistency": kept(1, early),
        "layer_saving": 1 - fmean(layers) / model.backbone.depth,
    }


def _exact(model: Model, tasks: Sequence[Task]) -> Iterator[float]:
    for answer in answer_all(model, tasks, {})[FULL]:
        yield answer.scores["em"]


def _part(task: Task, side: int) -> Task:
    return replace(task, questions=task.questions[side::2])


def _policy(model: Model, threshold: float) -> ExitPolicy:
    depth = model.backbone.depth
    layers = sorted({max(1, round(share * depth)) for share in SHARES})
    judge = build_judge("entropy", layers, model.backbone.config.hidden)
    return ExitPolicy(judge, (threshold,) * len(layers), skipped_state("recompute"))


def sections(found: dict[str, dict[str, dict[str, Any]]], steps: int) -> Iterator[str]:
    yield (
        f"# Tables\n\nMade by `python studies/finetune/run.py --steps {steps}`: held-out texts of "
        "the training distribution for the curves; for the rest the reference tasks' questions, "
        "with the judge entropy at six exits, whose threshold keeps 97% of the answers to other "
        "questions.\n"
    )
    for name, ways in found.items():
        yield f"## reference:{name}\n"
        yield "| way | exact answers, full depth | layers saved | answers as the full model's |"
        yield "|---|---|---|---|"
        for way, row in ways.items():
            figures = (row["exact"], row["layer_saving"], row["consistency"])
            yield f"| {way} | " + " | ".join(f"{100 * x:.1f}%" for x in figures) + " |"
        yield "\nTokens whose best after a layer is the last layer's:\n"
        yield "| layer | " + " | ".join(ways) + " |"
        yield "|---" * (len(ways) + 1) + "|"
        for points in zip(*(row["curve"] for row in ways.values()), strict=True):
            shares = " | ".join(f"{100 * point['agreement']:.1f}%" for point in points)
            yield f"| {points[0]['layer']} | {shares} |"
        yield ""


if __name__ == "__main__":
    typer.run(main)
