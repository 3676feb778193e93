"""``dynexit train-exits``: collect the full model's labels and fit a judge at every exit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dynexit.commands.loading import load, own_device
from dynexit.commands.options import Device, Dtype, Json, Model, bytes_of, whole_numbers
from dynexit.commands.output import out, print_json
from dynexit.errors import UserError

SIZE_PANEL = "Large collections"

if TYPE_CHECKING:
    from dynexit.exits.exit_set import ExitSet


def train_exits(
    model: Model,
    out_dir: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the exit set goes.")],
    judge: Annotated[
        str,
        typer.Option(
            "--judge", metavar="NAME", help="linear, ffn, mamba, shared, depth or predictor."
        ),
    ] = "mamba",
    layers: Annotated[
        str | None,
        typer.Option(
            "--layers",
            metavar="N,N,..",
            help="Exit layers, counted from 1. Default: four, evenly spaced from half depth on.",
        ),
    ] = None,
    top_k: Annotated[
        int,
        typer.Option(
            "--top-k",
            metavar="K",
            help="An exit is right if its best token is among the full model's K best.",
        ),
    ] = 1,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="FILE",
            help="Prompts: .txt, one a line, or .jsonl with prompt (and answer) or text. The "
            "reference models need none.",
        ),
    ] = None,
    prompts: Annotated[
        int, typer.Option("--prompts", metavar="N", help="Prompts that the full model answers.")
    ] = 400,
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", metavar="N", help="Longest answer to a prompt.")
    ] = 64,
    epochs: Annotated[int, typer.Option("--epochs", metavar="N", help="Passes over them.")] = 12,
    match: Annotated[
        bool,
        typer.Option(
            "--match/--no-match",
            help="Hide tokens that left from later exits, as decoding does.",
        ),
    ] = True,
    translators: Annotated[
        bool,
        typer.Option("--translators", help="Also fit a tuned-lens translator for each readout."),
    ] = False,
    tuned_lens: Annotated[
        Path | None,
        typer.Option(
            "--tuned-lens",
            metavar="FILE",
            help="Take the translators from a tuned lens of this model, as safetensors.",
        ),
    ] = None,
    precision: Annotated[
        float,
        typer.Option(
            "--precision",
            metavar="P",
            help="Share of leaving tokens that must be right at the default thresholds.",
        ),
    ] = 0.95,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of data and weights.")] = 0,
    batch: Annotated[
        int,
        typer.Option(
            "--batch", metavar="N", help="Texts in a step of the fit; workers share them by 16."
        ),
    ] = 32,
    collections: Annotated[
        Path | None,
        typer.Option(
            "--collection",
            metavar="DIR",
            help="Keep what is collected here, where another judge finds it.",
            rich_help_panel=SIZE_PANEL,
        ),
    ] = None,
    memory_budget: Annotated[
        str | None,
        typer.Option(
            "--memory-budget",
            metavar="SIZE",
            help="Collect within this memory, such as 8GB; a larger model runs layer by layer.",
            rich_help_panel=SIZE_PANEL,
        ),
    ] = None,
    disk_budget: Annotated[
        str | None,
        typer.Option(
            "--disk-budget",
            metavar="SIZE",
            help="Most bytes of the collection, such as 500GB.",
            rich_help_panel=SIZE_PANEL,
        ),
    ] = None,
    subsample: Annotated[
        str,
        typer.Option(
            "--subsample",
            metavar="WHAT",
            help="What a disk budget leaves out: texts, or tokens of them (linear and ffn judges).",
            rich_help_panel=SIZE_PANEL,
        ),
    ] = "texts",
    store_dtype: Annotated[
        str,
        typer.Option(
            "--store-dtype",
            metavar="NAME",
            help="Hidden states on disk: bf16 or fp16.",
            rich_help_panel=SIZE_PANEL,
        ),
    ] = "bf16",
    shard_tokens: Annotated[
        int,
        typer.Option(
            "--shard-tokens",
            metavar="N",
            help="Tokens of a shard, which are in memory together and lost together if cut short.",
            rich_help_panel=SIZE_PANEL,
        ),
    ] = 8192,
    dtype: Dtype = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Train exits: the full model answers prompts, and a judge learns where exits agree with it.

    The exit set is a directory for --exits of generate and eval.

    Example: `dynexit train-exits reference:mistral --judge linear --layers 6,8,10 --out exits`

    Several workers: `torchrun --nproc-per-node 2 -m dynexit train-exits MODEL --out DIR`
    """
    from dynexit.exits.exit_set import load_exit_set
    from dynexit.exits.judges import TRAINED_JUDGES
    from dynexit.locks import claimed
    from dynexit.training import ExitRecipe, Means
    from dynexit.training import train_exits as train
    from dynexit.workers import joined_workers

    if judge not in TRAINED_JUDGES:
        known = ", ".join(TRAINED_JUDGES)
        raise UserError(f"--judge {judge!r} is none that is trained; choose from {known}")
    recipe = ExitRecipe(
        judge=judge,
        layers=None if layers is None else whole_numbers("--layers", layers),
        top_k=top_k,
        prompts=prompts,
        max_new_tokens=max_new_tokens,
        epochs=epochs,
        match=match,
        translators=translators,
        tuned_lens=None if tuned_lens is None else str(tuned_lens),
        precision=precision,
        seed=seed,
        batch=batch,
        shard_tokens=shard_tokens,
        stored=store_dtype,
        disk_budget=bytes_of("--disk-budget", disk_budget),
        subsample=subsample,
    )
    memory = bytes_of("--memory-budget", memory_budget)
    with joined_workers() as workers:
        place = own_device(device, workers)
        loaded = load(model, dtype, place, layers_on_disk=memory is not None)
        means = Means(collections, memory, workers)
        with claimed(out_dir):
            train(loaded, recipe, out_dir, data, means=means)
            exits = load_exit_set(out_dir, loaded.backbone) if workers.first else None
    if exits is not None and json:
        print_json(describe(exits, out_dir))
    elif exits is not None:
        _show(exits, out_dir)


def describe(exits: ExitSet, out_dir: Path) -> dict[str, Any]:
    """All that ``--json`` prints; ``threshold`` is the default one of each exit."""
    return {
        "out": str(out_dir),
        "judge": exits.judge.kind,
        "exits": [
            {
                "layer": found.layer,
                "positives": found.positives,
                "auroc": found.auroc,
                "accuracy": found.accuracy,
                "threshold": threshold,
            }
            for found, threshold in zip(exits.metrics, exits.thresholds, strict=True)
        ],
    }


def _show(exits: ExitSet, out_dir: Path) -> None:
    from rich.table import Table

    from dynexit.reporting.tables import percent

    table = Table(title=f"exits of judge {exits.judge.kind}, on held-out tokens")
    for name in ("exit layer", "positives", "AUROC", "accuracy", "threshold"):
        table.add_column(name, justify="right")
    for found, threshold in zip(exits.metrics, exits.thresholds, strict=True):
        table.add_row(
            str(found.layer),
            percent(found.positives),
            "one label" if found.auroc is None else f"{found.auroc:.3f}",
            percent(found.accuracy),
            "never" if threshold > 1 else f"{threshold:.3f}",
        )
    out().print(table)
    out().print(f"Exit set in {out_dir}; use it with --exits {out_dir}")
