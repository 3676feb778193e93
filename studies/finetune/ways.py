"""Fine-tuning one model in several ways, and measuring each: what the studies here share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dynexit.commands.output import note
from dynexit.files import read_json, write_json
from dynexit.models import Model, load_model
from dynexit.training.finetune import FinetuneRecipe, finetune

FROZEN = "frozen"  # the model as it is
ORDINARY = {"layer_dropout": 0.0, "exit_loss": 0.0}


def measured_ways(
    model: str,
    data: Path | None,
    recipes: Mapping[str, FinetuneRecipe],
    work: Path,
    measure: Callable[[Model], dict[str, Any]],
) -> Iterator[tuple[str, dict[str, Any]]]:
    """A row for each way, the frozen model first: its curve, how fast it was trained, and what
    ``measure`` gives. What is there in ``work`` is not done again."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for way, recipe in recipes.items():
        place = work / _file_name(way)
        if not (place / "finetune.json").exists():
            note(f"{model}: {way}")
            finetune(load_model(model), recipe, place, data)
        told = read_json(place / "finetune.json")
        found.setdefault(FROZEN, (model, {"curve": told["before"]}))
        speed = told["tokens_per_second"]
        found[way] = (str(place), {"curve": told["after"], "tokens_per_second": speed})
    for way, (where, row) in found.items():
        kept = work / f"{_file_name(way)}.json"
        if not kept.exists():
            note(f"{model}: measuring the {way} one")
            write_json(kept, {**row, **measure(load_model(where))})
        yield way, read_json(kept)


def _file_name(way: str) -> str:
    return way.replace(" ", "-").replace(",", "")
