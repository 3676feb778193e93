"""The model that a command names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynexit.errors import UserError

if TYPE_CHECKING:
    from dynexit.models.loading import Model

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
