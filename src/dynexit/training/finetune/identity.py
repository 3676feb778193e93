"""Which run it is: an interrupted one goes on, and a finished one is kept, only for the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dynexit.digests import file_digest
from dynexit.errors import UserError
from dynexit.exits.fingerprint import fingerprint
from dynexit.models import Model
from dynexit.training.finetune.recipe import FinetuneRecipe

FREE = {"save_every"}  # may change on the way, as no weight depends on it


def identity(model: Model, recipe: FinetuneRecipe, data: Path | None) -> dict[str, Any]:
    """All that the result follows from: weights and their type, texts, recipe; as JSON gives it
    back. Of the model as it was loaded, before anything is trained."""
    found = {
        "weights": fingerprint(model.backbone).digest[:16],
        "dtype": str(model.backbone.dtype).removeprefix("torch."),
        "data": None if data is None else file_digest(data),
        **{name: value for name, value in recipe.as_json().items() if name not in FREE},
    }
    again: dict[str, Any] = json.loads(json.dumps(found))
    return again


def refuse_another(place: Path, theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> None:
    """Raise ``UserError`` with the first field in which the run that ``place`` is of differs."""
    for name, value in mine.items():
        if theirs.get(name) != value:
            raise UserError(
                f"{place} is of a run with {name} {theirs.get(name)!r}, and this one has "
                f"{value!r}; give the same settings, name a new --out, or remove it to begin anew"
            )
