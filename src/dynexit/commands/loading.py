"""The model that a command names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynexit.errors import UserError

if TYPE_CHECKING:
    import torch

    from dynexit.models.loading import Model

DTYPES = {
    "float32": "float32",
    "fp32": "float32",
    "bfloat16": "bfloat16",
    "bf16": "bfloat16",
    "float16": "float16",
    "fp16": "float16",
}


def load(name: str, dtype: str | None = None, device: str = "auto") -> Model:
    """The model of a command's MODEL argument."""
    import torch

    from dynexit.models.loading import load_model

    if dtype is not None and dtype not in DTYPES:
        raise UserError(f"--dtype {dtype!r} is not known; choose float32, bfloat16 or float16")
    place = find_device(device)
    return load_model(name, None if dtype is None else getattr(torch, DTYPES[dtype]), place)


def find_device(name: str) -> torch.device:
    """The device of that name, or ``UserError`` where this machine has none of it."""
    import torch

    gpus = torch.cuda.device_count()
    if name == "auto":
        return torch.device("cuda" if gpus else "cpu")
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()):
        raise UserError(f"--device {name!r} is not known; choose auto, cpu, cuda or cuda:N")
    if kind == "cuda" and int(number or 0) >= gpus:
        has = f"has {gpus} CUDA device(s)" if gpus else "has no CUDA device, or PyTorch sees none"
        raise UserError(f"--device {name}: this machine {has}; leave it out or give cpu")
    return torch.device(name)
