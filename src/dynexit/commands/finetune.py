"""``dynexit finetune``: train a backbone's early layers to be read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dynexit.commands.loading import load, own_device
from dynexit.commands.options import Device, Dtype, Json, Model, whole_numbers
from dynexit.commands.output import out, print_json, said_by_first

if TYPE_CHECKING:
    from dynexit.training.finetune import Finetuned

RECIPE_PANEL = "Early exit"
TRAINING_PANEL = "Training"


def finetune(
    model: Model,
    out_dir: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where the new checkpoint goes.")
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="FILE",
            help="Texts: .txt, one a line, or .jsonl with text, or with prompt and answer. The "
            "reference models need none.",
        ),
    ] = None,
    steps: Annotated[
        int, typer.Option("--steps", metavar="N", rich_help_panel=TRAINING_PANEL)
    ] = 500,
    batch: Annotated[
        int,
        typer.Option("--batch", metavar="N", help="Texts a step.", rich_help_panel=TRAINING_PANEL),
    ] = 8,
    length: Annotated[
        int,
        typer.Option(
            "--length", metavar="N", help="Most tokens of a text.", rich_help_panel=TRAINING_PANEL
        ),
    ] = 512,
    rate: Annotated[
        float | None,
        typer.Option(
            "--lr",
            metavar="X",
            help="Highest learning rate. Default: 1e-4, with --lora 1e-3.",
            rich_help_panel=TRAINING_PANEL,
        ),
    ] = None,
    lora: Annotated[
        int,
        typer.Option(
            "--lora",
            metavar="RANK",
            help="Train adapters of this rank, merged in the end; 0 trains all weights.",
            rich_help_panel=TRAINING_PANEL,
        ),
    ] = 0,
    held_out: Annotated[
        int,
        typer.Option(
            "--held-out",
            metavar="N",
            help="Texts kept apart to measure on.",
            rich_help_panel=TRAINING_PANEL,
        ),
    ] = 64,
    recompute: Annotated[
        bool,
        typer.Option(
            "--recompute",
            help="Keep no activations inside of layers: less memory, a third more time.",
            rich_help_panel=TRAINING_PANEL,
        ),
    ] = False,
    save_every: Annotated[
        int,
        typer.Option(
            "--save-every",
            metavar="N",
            help="Steps that an interruption can cost.",
            rich_help_panel=TRAINING_PANEL,
        ),
    ] = 100,
    seed: Annotated[int, typer.Option("--seed", metavar="N", rich_help_panel=TRAINING_PANEL)] = 0,
    layer_dropout: Annotated[
        float,
        typer.Option(
            "--layer-dropout",
            metavar="P",
            help="Rate at which the last layer is dropped; earlier ones less, the first never.",
            rich_help_panel=RECIPE_PANEL,
        ),
    ] = 0.1,
    exit_loss: Annotated[
        float,
        typer.Option(
            "--exit-loss",
            metavar="W",
            help="Weight of the losses of earlier layers; 0 is ordinary fine-tuning.",
            rich_help_panel=RECIPE_PANEL,
        ),
    ] = 1.0,
    curriculum: Annotated[
        str,
        typer.Option(
            "--curriculum",
            metavar="NAME",
            help="Which layers a step reads: rotational, gradual or all.",
            rich_help_panel=RECIPE_PANEL,
        ),
    ] = "rotational",
    interval: Annotated[
        int | None,
        typer.Option(
            "--interval",
            metavar="N",
            help="Rotational: every N-th layer in a step. Default: a quarter of the depth.",
            rich_help_panel=RECIPE_PANEL,
        ),
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(
            "--layers",
            metavar="N,N,..",
            help="Read these layers only, counted from 1, such as the exits to come. Default: all.",
            rich_help_panel=RECIPE_PANEL,
        ),
    ] = None,
    dtype: Dtype = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Fine-tune a model for early exits: layers are dropped at random, and read before the last.

    LayerSkip's recipe, for every architecture here. The result is a checkpoint as any other; train
    exits for it anew. Run the same command again to go on after an interruption; it refuses a
    directory that is of another model, other texts or settings.

    Example: `dynexit finetune my-model/ --data texts.jsonl --lora 16 --out my-model-early/`
    """
    from dynexit.locks import claimed
    from dynexit.training.finetune import FinetuneRecipe
    from dynexit.training.finetune import finetune as train
    from dynexit.workers import joined_workers

    recipe = FinetuneRecipe(
        steps=steps,
        batch=batch,
        length=length,
        rate=rate if rate is not None else 1e-3 if lora else 1e-4,
        layer_dropout=layer_dropout,
        exit_loss=exit_loss,
        curriculum=curriculum,
        interval=interval,
        layers=None if layers is None else tuple(sorted(whole_numbers("--layers", layers))),
        lora=lora,
        held_out=held_out,
        recompute=recompute,
        seed=seed,
        save_every=save_every,
    )
    with joined_workers() as workers, said_by_first(workers):
        loaded = load(model, dtype, own_device(device, workers))
        with claimed(out_dir):
            result = train(loaded, recipe, out_dir, data)
        if json:
            print_json(describe(result, out_dir, recipe.steps))
        else:
            _show(result, out_dir)


def describe(result: Finetuned, out_dir: Path, steps: int) -> dict[str, Any]:
    """All that ``--json`` prints, on held-out texts: ``loss`` is of full depth, ``exits`` has a row
    for each layer. ``tokens_per_second`` is None where the run had been finished before."""
    pairs = zip(result.before, result.after, strict=True)
    return {
        "out": str(out_dir),
        "steps": steps,
        "loss": {"first": result.before[-1].loss, "last": result.after[-1].loss},
        "tokens_per_second": result.tokens_per_second,
        "exits": [
            {"layer": a.layer, "before": b.as_json(), "after": a.as_json()} for b, a in pairs
        ],
    }


def _show(result: Finetuned, out_dir: Path) -> None:
    from rich.table import Table

    from dynexit.reporting.tables import percent

    table = Table(title="the readout after each layer, on held-out texts, before and after")
    for name in ("layer", "loss", "right", "as the last layer"):
        table.add_column(name, justify="right")
    for b, a in zip(result.before, result.after, strict=True):
        table.add_row(
            str(a.layer),
            f"{b.loss:.2f} → {a.loss:.2f}",
            f"{percent(b.accuracy)} → {percent(a.accuracy)}",
            f"{percent(b.agreement)} → {percent(a.agreement)}",
        )
    out().print(table)
    out().print(f"Checkpoint in {out_dir}; now: dynexit train-exits {out_dir} --out exits/")
