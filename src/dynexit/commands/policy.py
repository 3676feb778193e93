"""From the options of a command to a loaded model and an exit policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynexit.errors import UserError
from dynexit.exits.choice import REFERENCE, REFERENCE_JUDGE, Choice, Wish, choose

if TYPE_CHECKING:
    from dynexit.models.loading import Model

__all__ = ["REFERENCE", "REFERENCE_JUDGE", "Choice", "Wish", "choose", "load"]

DTYPES = {
    "float32": "float32",
    "fp32": "float32",
    "bfloat16": "bfloat16",
    "bf16": "bfloat16",
    "float16": "float16",
    "fp16": "float16",
}


def load(name: str, dtype: str | None = None) -> Model:
    """The model of a command's MODEL argument."""
    import torch

    from dynexit.models.loading import load_model

    if dtype is not None and dtype not in DTYPES:
        raise UserError(f"--dtype {dtype!r} is not known; choose float32, bfloat16 or float16")
    return load_model(name, None if dtype is None else getattr(torch, DTYPES[dtype]))
