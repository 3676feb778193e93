"""``dynexit bench``: speed and memory, beside the machine's own limits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dynexit.commands.options import Json, names, whole_numbers
from dynexit.commands.output import counting, note, out, print_json

if TYPE_CHECKING:
    from dynexit.evaluation.bench.subject import Subject
    from dynexit.evaluation.bench.suites import BenchReport

STOPPED = 130
DTYPES = {"fp32": "float32", "bf16": "bfloat16", "float32": "float32", "bfloat16": "bfloat16"}
WORK = Path("dynexit-bench")
DEFAULT_MODEL = "reference:mistral"
MODEL_PANEL, MEASURED_PANEL = "The model", "What is measured"


def bench(
    suite: Annotated[
        str,
        typer.Option(
            "--suite",
            metavar="NAME",
            help="depth (fixed exits against full depth), batch, context, prefill, judges (what a "
            "check costs), lossless (drafts that are verified), memory, machine (its limits "
            "alone), peers (other systems).",
            rich_help_panel=MEASURED_PANEL,
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="MODEL",
            help="Directory of a checkpoint, hub id, reference:mistral (the default) or "
            "reference:mamba2.",
            rich_help_panel=MODEL_PANEL,
        ),
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(
            "--shape",
            metavar="NAME",
            help="Instead of a model, random bf16 weights of a known shape: mistral-1b, "
            "mistral-7b, mamba2-1b, mamba2-7b or mamba-1b.",
            rich_help_panel=MODEL_PANEL,
        ),
    ] = None,
    work: Annotated[
        Path,
        typer.Option(
            "--work",
            metavar="DIR",
            help="Where --shape keeps its checkpoints (2.2 to 3 GB each of 1b, 15 GB of 7b) and "
            "the suite peers its own.",
            rich_help_panel=MODEL_PANEL,
        ),
    ] = WORK,
    dtype: Annotated[
        str | None,
        typer.Option(
            "--dtype",
            metavar="NAME",
            help="bf16 or fp32. Default: the checkpoint's.",
            rich_help_panel=MODEL_PANEL,
        ),
    ] = None,
    rounds: Annotated[
        int,
        typer.Option("--rounds", metavar="N", help="How often each configuration runs."),
    ] = 5,
    tokens: Annotated[
        int, typer.Option("--tokens", metavar="N", help="Tokens decoded in each run.")
    ] = 32,
    threads: Annotated[
        int | None,
        typer.Option("--threads", metavar="N", help="Default: PyTorch's, one a core."),
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(
            "--layers",
            metavar="N,N,..",
            help="Exit layers, counted from 1. Default: all of a small model; a quarter, half and "
            "three quarters of the depth of a big one.",
            rich_help_panel=MEASURED_PANEL,
        ),
    ] = None,
    state: Annotated[
        str | None,
        typer.Option(
            "--state",
            metavar="NAME,..",
            help="What becomes of skipped layers: copy, propagate, freeze, recompute. Default: all "
            "that suit the model.",
            rich_help_panel=MEASURED_PANEL,
        ),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            "--judge",
            metavar="NAME,..",
            help="Judges whose checks are made at the exits, whatever they say; NAME+screen puts "
            "one of the readout behind a screen. Default: none in depth, all in judges. Trained "
            "kinds have random weights.",
            rich_help_panel=MEASURED_PANEL,
        ),
    ] = None,
    sizes: Annotated[
        str | None,
        typer.Option(
            "--sizes",
            metavar="N,N,..",
            help="Batch sizes, context lengths or prompt lengths of those suites.",
            rich_help_panel=MEASURED_PANEL,
        ),
    ] = None,
    out_file: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write the JSON object to this file, too."),
    ] = None,
    json: Json = False,
) -> None:
    """Measure speed or memory, suite by suite, beside the machine's own limits.

    All configurations of a suite run once a round, in an order that turns, and so do probes of the
    machine's read bandwidth and of matrix-vector products in each dtype; medians over rounds are
    shown with the lowest and highest. Let nothing else run beside it. Ctrl-C ends the rounds and
    shows what is known by then.

    Example: `dynexit bench --suite depth --model reference:mistral`

    Example: `dynexit bench --suite depth --shape mamba2-1b --layers 12,24,36 --state recompute`
    """
    from dynexit.evaluation.bench.plan import Plan
    from dynexit.evaluation.bench.suites import bench as run_suite
    from dynexit.evaluation.bench.suites import check_suite
    from dynexit.models.device import using_threads

    check_suite(suite)
    plan = Plan(
        rounds,
        tokens,
        None if layers is None else whole_numbers("--layers", layers),
        None if state is None else tuple(names(state)),
        None if judge is None else tuple(names(judge)),
        None if sizes is None else whole_numbers("--sizes", sizes),
    )
    with using_threads(threads):
        report = run_suite(suite, _subject(model, shape, work, dtype), plan, counting)
    _tell(report, out_file, json)


def _subject(model: str | None, shape: str | None, work: Path, dtype: str | None) -> Subject:
    """The checkpoint that the options name."""
    import torch

    from dynexit.errors import UserError
    from dynexit.evaluation.bench.subject import open_model, open_shape

    if model is not None and shape is not None:
        raise UserError("--model and --shape each name a model; give one or the other")
    if dtype is not None and dtype not in DTYPES:
        raise UserError(f"--dtype {dtype!r} is not known; choose bf16 or fp32")
    chosen = None if dtype is None else getattr(torch, DTYPES[dtype])
    if shape is not None:
        return open_shape(shape, work, counting, chosen)
    return open_model(DEFAULT_MODEL if model is None else model, chosen, work)


def _tell(report: BenchReport, out_file: Path | None, json: bool) -> None:
    """Print the report, write it where asked, and end as stopped if it was."""
    from dynexit.files import write_json

    data = report.as_json()
    if out_file is not None:
        write_json(out_file, data)
    if json:
        print_json(data)
    else:
        from dynexit.reporting.bench_table import bench_table, machine_lines

        for line in machine_lines(report):
            out().print(line, style="dim")
        out().print(bench_table(report))
    if report.stopped:
        note(f"stopped before the last of {report.plan.rounds} rounds; this is what is known")
        raise typer.Exit(STOPPED)
