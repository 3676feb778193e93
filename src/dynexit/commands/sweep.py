"""``dynexit sweep``: judges x thresholds x state policies, what each keeps and what it saves."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dynexit.commands.loading import load
from dynexit.commands.options import DataDir, Device, Dtype, Json, Model, names, whole_numbers
from dynexit.commands.output import counting, out, print_json
from dynexit.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from dynexit.evaluation.candidates import Wanted
    from dynexit.evaluation.points import Point

GRID_PANEL = "What is compared"
TRAINING_PANEL = "Judges to train"
LIMIT = 40


def sweep(
    model: Model,
    out_dir: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Where rows and report go. A sweep that is there already goes on, and grows.",
        ),
    ],
    judges: Annotated[
        str | None,
        typer.Option(
            "--judges",
            metavar="NAME,..",
            help="linear, ffn, mamba, shared, depth, predictor, top-probability, margin, entropy, "
            "saturation, patience. Default: all that need no training here.",
            rich_help_panel=GRID_PANEL,
        ),
    ] = None,
    thresholds: Annotated[
        str | None,
        typer.Option(
            "--thresholds",
            metavar="X,..",
            help="Scores from 0 to 1. Default: eight from 0.5 to 0.999.",
            rich_help_panel=GRID_PANEL,
        ),
    ] = None,
    states: Annotated[
        str | None,
        typer.Option(
            "--states",
            metavar="NAME,..",
            help="copy, freeze, propagate, recompute, for every judge. Default: recompute, and all "
            "others for the mamba judge.",
            rich_help_panel=GRID_PANEL,
        ),
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(
            "--layers",
            metavar="N,N,..;..",
            help="Lists of exit layers, counted from 1, separated by semicolons.",
            rich_help_panel=GRID_PANEL,
        ),
    ] = None,
    exits: Annotated[
        list[Path] | None,
        typer.Option(
            "--exits",
            metavar="DIR",
            help="Exit set made by train-exits; may be given several times.",
            rich_help_panel=GRID_PANEL,
        ),
    ] = None,
    train: Annotated[
        bool,
        typer.Option(
            "--train",
            help="Fit the trained judges now, into DIR/exits, on one collection.",
            rich_help_panel=TRAINING_PANEL,
        ),
    ] = False,
    top_k: Annotated[
        str | None,
        typer.Option(
            "--top-k",
            metavar="K,..",
            help="Fit them for these: an exit is right if its best token is among the full "
            "model's K best.",
            rich_help_panel=TRAINING_PANEL,
        ),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            "--seeds",
            metavar="N,..",
            help="Fit them with these seeds.",
            rich_help_panel=TRAINING_PANEL,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="FILE",
            help="Prompts to fit on, as train-exits takes them. The reference models need none.",
            rich_help_panel=TRAINING_PANEL,
        ),
    ] = None,
    tasks: Annotated[
        str, typer.Option("--tasks", metavar="NAME,..", help="What to ask, as eval does.")
    ] = "reference",
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", help="Only the first N questions a task.")
    ] = LIMIT,
    data_dir: DataDir = None,
    timed: Annotated[
        int,
        typer.Option(
            "--time",
            metavar="N",
            help="Measure the time of the best points on N questions a task name; 0 for not.",
        ),
    ] = 20,
    dtype: Dtype = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Compare judges, thresholds and state policies, and report what each keeps and saves.

    Every point is measured against the full model on the same questions: metrics, consistency,
    exit layers, FLOPs and bytes; of the best ones also the time. With the state recompute most
    answers are known without decoding, so many thresholds cost little. Stopped at any moment, the
    same command goes on where it was. DIR gets points.jsonl and report.html.

    Example: `dynexit sweep reference:mamba2 --judges mamba,margin --out sweep`
    """
    from dynexit.evaluation.sweep import THRESHOLDS, Grid, run_sweep
    from dynexit.evaluation.tasks import load_tasks
    from dynexit.reporting.report import write_report

    grid = Grid(
        thresholds=THRESHOLDS if thresholds is None else _scores(thresholds),
        states=() if states is None else tuple(names(states)),
        timed=timed,
    )
    wanted = _wanted(judges, layers, top_k, seeds, train, exits or [], data)
    asked = load_tasks(names(tasks), limit, data_dir)
    loaded = load(model, dtype, device)
    command = shlex.join(["dynexit", *sys.argv[1:]])
    points = run_sweep(loaded, asked, wanted, grid, out_dir, counting, command)
    report = write_report([out_dir], out_dir)
    if json:
        print_json(describe(points, list(asked), report))
    else:
        _show(points, list(asked), report)


def _wanted(
    judges: str | None,
    layers: str | None,
    top_k: str | None,
    seeds: str | None,
    train: bool,
    exits: Sequence[Path],
    data: Path | None,
) -> Wanted:
    from dynexit.evaluation.candidates import Wanted

    if data is not None and not (train or top_k or seeds):
        raise UserError("--data is what judges are fitted on; add --train")
    return Wanted(
        judges=() if judges is None else tuple(names(judges.replace("_", "-"))),
        layers=() if layers is None else tuple(map(_layers, layers.split(";"))),
        top_k=(1,) if top_k is None else whole_numbers("--top-k", top_k),
        seeds=(0,) if seeds is None else whole_numbers("--seeds", seeds),
        train=train or top_k is not None or seeds is not None,
        exits=tuple(exits),
        data=data,
    )


def _layers(text: str) -> tuple[int, ...]:
    return whole_numbers("--layers", text)


def _scores(text: str) -> tuple[float, ...]:
    try:
        return tuple(dict.fromkeys(float(part) for part in names(text)))
    except ValueError:
        raise UserError(f"--thresholds {text!r}: give numbers, such as 0.5,0.9,0.99") from None


def describe(points: Sequence[Point], tasks: Sequence[str], report: Path) -> dict[str, Any]:
    """All that ``--json`` prints: the points without the columns of their questions, and by task,
    value and cost the ids of the best ones, in ascending cost."""
    from dynexit.evaluation.fronts import fronts

    every = dict.fromkeys((*tasks, *(point.task for point in points)))
    return {
        "points": [point.as_json(questions=False) for point in points],
        "pareto": {
            task: {
                value: {cost: [point.id for point in best] for cost, best in by_cost.items()}
                for value, by_cost in fronts(points, task).items()
            }
            for task in every
        },
        "report": str(report),
    }


def _show(points: Sequence[Point], tasks: Sequence[str], report: Path) -> None:
    from dynexit.evaluation.fronts import fronts

    for task in tasks:
        best = fronts(points, task)["consistency"].get("flops", [])
        out().print(_table(f"{task}: most answers kept for the FLOPs", best))
    out().print(f"{len(points)} points; report: {report}")


def _table(title: str, points: Sequence[Point]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from dynexit.reporting.tables import percent

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0, pad_edge=False)
    for name in ("judge", "state"):
        table.add_column(name, no_wrap=True, vertical="bottom")
    for name in ("thres-\nhold", "accuracy", "consistency", "FLOP\nsaving", "speedup"):
        table.add_column(name, justify="right", no_wrap=True, vertical="bottom")
    for point in points:
        table.add_row(
            point.setting.judge_name,
            point.state,
            f"{point.threshold:g}",
            "" if point.accuracy is None else percent(point.accuracy),
            percent(point.consistency["answers"] or 0.0),
            percent(point.flop_saving),
            "" if point.speedup is None else f"{point.speedup:.2f}x",
        )
    return table
