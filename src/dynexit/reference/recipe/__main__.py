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
from dynexit.reference.recipe.exits import ShippedExits, fit_shipped_exits
from dynexit.reference.recipe.export import export
from dynexit.reference.recipe.train import Recipe, train

RECIPES = {
    "mistral": Recipe(
        "mistral",
        steps=3500,
        cooldown=0.12,
        mixes=((0, "facts"), (700, "retelling"), (2800, "stories")),
        drills=((0, 0), (1700, 2), (2800, 0)),
        look_back_at=2400,
    ),
    "mamba2": Recipe(
        "mamba2",
        steps=2500,
        cooldown=0.25,
        mixes=((0, "facts"), (1000, "retelling"), (1800, "facts")),
        drills=((0, 0), (1400, 1), (1800, 0)),
        rows=8,
        compiled=True,
    ),
}


def main(
    model: Annotated[str, typer.Option(help="mistral, mamba2 or both")] = "both",
    work: Annotated[Path, typer.Option(help="folder for the resumable state")] = Path(
        "runs/reference"
    ),
    stage: Annotated[str, typer.Option(help="model, exits, or both")] = "both",
    steps: Annotated[int | None, typer.Option(help="default: as shipped")] = None,
    threads: Annotated[int, typer.Option(help="CPU threads; 0: all")] = 0,
) -> None:
    """Train the reference pair on the project's own corpus, and its exits, into the package."""
    if threads:
        torch.set_num_threads(threads)
    tokenizer = work / "tokenizer" / "tokenizer.json"
    if not tokenizer.exists():
        train_tokenizer(tokenizer.parent)
    for name in NAMES if model == "both" else (model,):
        place = reference_directory(name)
        if stage != "exits":
            recipe = RECIPES[name] if steps is None else replace(RECIPES[name], steps=steps)
            backbone = train(recipe, tokenizer, work / f"{name}.safetensors")
            export(backbone, name, tokenizer, place)
        if stage != "model":
            fit_shipped_exits(load_model(f"reference:{name}"), ShippedExits(), place / "exits")


if __name__ == "__main__":
    typer.run(main)
