"""Devices and number formats by the names that users give them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from dynexit.errors import UserError

DETERMINISM = "DYNEXIT_DETERMINISTIC"

DTYPES = {
    "float32": "float32",
    "fp32": "float32",
    "bfloat16": "bfloat16",
    "bf16": "bfloat16",
    "float16": "float16",
    "fp16": "float16",
}


def find_dtype(name: str | None) -> torch.dtype | None:
    """The dtype of that name; None is the checkpoint's own."""
    if name is None:
        return None
    if name not in DTYPES:
        raise UserError(f"--dtype {name!r} is not known; choose float32, bfloat16 or float16")
    found: torch.dtype = getattr(torch, DTYPES[name])
    return found


def find_device(name: str) -> torch.device:
    """The device of that name, or ``UserError`` where this machine has none of it."""
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


def settle_determinism() -> None:
    """With ``DYNEXIT_DETERMINISTIC=on`` in the environment let PyTorch use only algorithms that
    give the same numbers every time (an error where there is none), before anything is on a device.

    A CPU computes the same each time without it, given the same number of threads.
    """
    if os.environ.get(DETERMINISM, "off").lower() == "on":
        os.environ.setdefault(
            "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
        )  # cuBLAS reads it when it starts
        torch.use_deterministic_algorithms(True)


@contextmanager
def using_threads(count: int | None) -> Iterator[None]:
    """PyTorch with so many threads (None: as it is), and as before when the block ends."""
    if count is not None and count < 1:
        raise UserError(f"--threads {count}: give at least 1")
    before = torch.get_num_threads()
    try:
        if count is not None:
            torch.set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(before)
