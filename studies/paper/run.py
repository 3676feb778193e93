"""The experiment of DYNAMAX (arXiv 2504.20922) as one command that can be stopped at any moment.

python studies/paper/run.py --out results --data-dir official

See README.md beside it.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from dynexit.cli import Commands
from dynexit.commands.options import DataDir, names, whole_numbers
from dynexit.commands.output import out
from dynexit.errors import UserError
from dynexit.models.device import DTYPES

MISTRAL, MAMBA = "mistralai/Mistral-7B-v0.3", "mistralai/Mamba-Codestral-7B-v0.1"
TASKS = ("truthfulqa", "coqa", "triviaqa")
THRESHOLDS = "0.5,0.7,0.9,0.95,0.99"
SETTINGS = "study.json"

app = typer.Typer(
    cls=Commands,
    add_completion=False,
    pretty_exceptions_enable=False,
    subcommand_metavar="",
    rich_markup_mode="markdown",
)


@app.callback(invoke_without_command=True)
def study(
    out_dir: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Where everything goes. A study that is there already goes on.",
            show_default=False,
        ),
    ],
    mistral: Annotated[
        str, typer.Option("--mistral", metavar="MODEL", help="The transformer: directory or hub id")
    ] = MISTRAL,
    mamba: Annotated[
        str, typer.Option("--mamba", metavar="MODEL", help="The Mamba: directory or hub id.")
    ] = MAMBA,
    data_dir: DataDir = None,
    tasks: Annotated[
        str, typer.Option("--tasks", metavar="NAME,..", help="What to ask.")
    ] = ",".join(TASKS),
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=0, help="Questions of a task; 0 for all.")
    ] = 100,
    train_limit: Annotated[
        int,
        typer.Option(
            "--train-limit",
            metavar="N",
            min=0,
            help="Other questions of a task that judges learn from; 0 for all.",
        ),
    ] = 250,
    thresholds: Annotated[
        str, typer.Option("--thresholds", metavar="X,..", help="Scores from 0 to 1.")
    ] = THRESHOLDS,
    layers: Annotated[
        str | None,
        typer.Option(
            "--layers",
            metavar="N,..;N,..",
            help="Exit layers of the transformer and, after a semicolon, of the Mamba. "
            "Default: four in the second half of each.",
        ),
    ] = None,
    top_k: Annotated[
        str, typer.Option("--top-k", metavar="K,..", help="Train judges on labels of these.")
    ] = "1",
    seeds: Annotated[
        str, typer.Option("--seeds", metavar="N,..", help="Train judges with these seeds.")
    ] = "0",
    timed: Annotated[
        int,
        typer.Option(
            "--time",
            metavar="N",
            min=0,
            help="Measure the time of the best settings on N questions of a task; 0 for not.",
        ),
    ] = 5,
    dtype: Annotated[
        str, typer.Option("--dtype", metavar="NAME", help="float32, bfloat16 or float16.")
    ] = "bfloat16",
    device: Annotated[
        str | None,
        typer.Option(
            "--device", metavar="NAME", help="cpu or cuda. Default: cuda where there is one."
        ),
    ] = None,
) -> None:
    """Judges linear, ffn and mamba, all state policies, TruthfulQA, CoQA and TriviaQA, on a
    transformer and a Mamba, to one report.

    Stopped at any moment, the same command goes on where it was.

    Example: `python studies/paper/run.py --out results --data-dir official`
    """
    from paper_backbone import Plan, run_backbone

    from dynexit.locks import claimed
    from dynexit.reporting.report import write_report
    from dynexit.training import ExitRecipe

    place = _device(device)
    if dtype not in DTYPES:
        raise UserError(f"--dtype {dtype!r} is not known; choose float32, bfloat16 or float16")
    lists = _layers(layers)
    plan = Plan(
        division=_division(tasks, limit or None, train_limit or None, data_dir),
        thresholds=_thresholds(thresholds),
        top_k=whole_numbers("--top-k", top_k),
        seeds=whole_numbers("--seeds", seeds),
        timed=timed,
        recipe=ExitRecipe(max_new_tokens=50),
    )
    backbones = {"mistral": (mistral, lists[0]), "mamba": (mamba, lists[-1])}
    exits = {name: _checked(model, own, plan) for name, (model, own) in backbones.items()}
    command = shlex.join(["python", "studies/paper/run.py", *sys.argv[1:]])
    with claimed(out_dir):
        _remember(
            out_dir / SETTINGS,
            {
                "tasks": sorted(plan.division.asked),
                "limit": limit,
                "train_limit": train_limit,
                "dtype": DTYPES[dtype],
                **{f"questions_{side}": d for side, d in plan.division.digests.items()},
            },
        )
        done = []
        for name, (model, _) in backbones.items():
            done.append(out_dir / name)
            run_backbone(model, exits[name], plan, done[-1], DTYPES[dtype], place, command)
            report = write_report(done, out_dir)
    out().print(f"report: {report}", soft_wrap=True)


def _division(tasks: str, limit: int | None, train_limit: int | None, data: Path | None) -> Any:
    from paper_questions import divide

    from dynexit.evaluation.tasks import load_tasks

    asked = names(tasks)
    if other := [name for name in asked if name not in TASKS]:
        raise UserError(f"--tasks: {other[0]!r} is not of the study; choose from {','.join(TASKS)}")
    return divide(load_tasks(asked, None, data), limit, train_limit)


def _checked(name: str, layers: tuple[int, ...] | None, plan: Any) -> tuple[int, ...]:
    """The exit layers of a model, found with all that could be wrong before it is loaded."""
    from dataclasses import replace

    from dynexit.models.hub import resolve_model
    from dynexit.models.loading import read_config
    from dynexit.models.tokenizer import load_tokenizer

    directory = resolve_model(name)
    load_tokenizer(directory)
    recipe = replace(plan.recipe, layers=layers)
    found: tuple[int, ...] = recipe.exits(read_config(directory).depth)
    list(plan.recipes(found))  # refuses a top-k that can't be
    return found


def _layers(text: str | None) -> list[tuple[int, ...] | None]:
    if text is None:
        return [None]
    lists = [whole_numbers("--layers", part) for part in text.split(";")]
    if len(lists) > 2:
        raise UserError(f"--layers {text!r}: give one list, or two with a semicolon between them")
    return list(lists)


def _thresholds(text: str) -> tuple[float, ...]:
    try:
        found = tuple(dict.fromkeys(float(part) for part in names(text)))
    except ValueError:
        found = ()
    if not found or not all(0.0 <= threshold <= 1.0 for threshold in found):
        raise UserError(f"--thresholds {text!r}: give numbers from 0 to 1, such as {THRESHOLDS}")
    return found


def _device(name: str | None) -> str:
    import torch

    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise UserError(f"--device {name!r} is not on this machine; give cpu, or none") from None
    return name


def _remember(path: Path, settings: dict[str, Any]) -> None:
    """Note what may not change while a study goes on."""
    from dynexit.files import read_json, write_json

    if path.exists():
        old = read_json(path)
        if changed := [name for name, value in settings.items() if old.get(name) != value]:
            was = old.get(changed[0])
            raise UserError(
                f"{path}: this study was begun with other {changed[0].replace('_', ' ')} ({was}); "
                "give the same, or choose another --out"
            )
    write_json(path, settings)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the study; exit code 2 for a mistake of the user's."""
    app(arguments, prog_name="run.py")


if __name__ == "__main__":
    main()
