"""Trains the reference pair: ``python -m dynexit.reference.recipe [--model NAME] ...``.

Killed at any moment, the same command goes on where it was.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer

from dynexit.models import load_model
from dynexit.reference.corpus.tokenizer import train_tokenizer
from dynexit.reference.pair import NAMES, reference_directory
from dynexit.reference.recipe.exits import SHIPPED, fit_shipped_exits
from dynexit.reference.recipe.export import export
from dynexit.reference.recipe.recipes import RECIPES
from dynexit.reference.recipe.train import train


def main(
    model: Annotated[str, typer.Option(help="mistral, mamba2 or both")] = "both",
    work: Annotated[Path, typer.Option(help="folder for the resumable state")] = Path(
        "runs/reference"
    ),
    stage: Annotated[str, typer.Option(help="model, exits, or both")] = "both",
    steps: Annotated[int | None, typer.Option(help="default: the recipe's")] = None,
    device: Annotated[
        str, typer.Option(help="cuda: what shipped, in minutes; cpu: much less text, in hours")
    ] = "cuda" if torch.cuda.is_available() else "cpu",
    threads: Annotated[int, typer.Option(help="CPU threads; 0: all")] = 0,
    workers: Annotated[int, typer.Option(help="processes that write the text")] = 0,
) -> None:
    """Train the reference pair on the project's own corpus, and its exits, into the package."""
    if threads:
        torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("high")  # what is not bf16 anyway may be TF32 on a GPU
    tokenizer = work / "tokenizer" / "tokenizer.json"
    if not tokenizer.exists():
        train_tokenizer(tokenizer.parent)
    for name in NAMES if model == "both" else (model,):
        place = reference_directory(name)
        if stage != "exits":
            recipe = RECIPES[device][name]
            if steps is not None:
                recipe = replace(recipe, steps=steps)
            backbone = train(recipe, tokenizer, work / f"{name}.safetensors", device, workers)
            export(backbone, name, tokenizer, place)
        if stage != "model":
            fit_shipped_exits(load_model(f"reference:{name}"), SHIPPED[name], place / "exits")


if __name__ == "__main__":
    typer.run(main)
