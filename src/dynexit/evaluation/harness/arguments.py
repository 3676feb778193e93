"""From the values of ``--model_args`` to what they stand for."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from dynexit.errors import UserError
from dynexit.exits.choice import Wish
from dynexit.models.family_fields import DTYPES

BATCH = 16  # where none is said, or "auto"
KNOWN = (
    *("pretrained", "exits", "judge", "threshold", "exit_layer", "state", "layers"),
    "lossless",
    *("dtype", "device", "batch_size", "max_length", "max_gen_toks"),
)
_log = logging.getLogger(__name__)
Numbers = int | str | Sequence[int] | None


def dtype_of(name: str | None) -> torch.dtype | None:
    """The dtype of that name; None is the checkpoint's own."""
    if name is None or name == "auto":
        return None
    if name not in DTYPES:
        raise UserError(f"dtype={name} is not known; choose from auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def device_of(name: str | None) -> str:
    """Where to compute; None is a GPU if there is one.

    The harness's command says ``cuda`` where its user said nothing, so without a GPU that means
    the CPU, as it does for the harness's ``hf``.
    """
    if torch.cuda.is_available():
        return name or "cuda"
    if name is None or name.startswith("cuda"):
        _log.info("no CUDA device here: computing on the CPU")
        return "cpu"
    return name


def whole(name: str, value: object) -> int:
    """A whole number of at least 1."""
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UserError(f"{name}={value}: give a whole number of at least 1")
    return value


def batch_of(value: int | str | None) -> int:
    """Rows computed at once; the harness's ``auto`` and ``auto:N`` measure nothing here."""
    if value is None or str(value).startswith("auto"):
        return BATCH
    return whole("batch_size", value)


def wish(
    exits: str | None,
    judge: str | None,
    threshold: float | None,
    exit_layer: int | None,
    layers: Numbers,
    state: str,
    lossless: bool,
) -> Wish:
    """The arguments about exits, as ``exits.choice`` takes them."""
    if threshold is not None and not isinstance(threshold, int | float):
        raise UserError(f"threshold={threshold}: give a number from 0 to 1")
    if not isinstance(lossless, bool):
        raise UserError(f"lossless={lossless}: give true or false")
    return Wish(
        None if exits is None else Path(exits),
        judge,
        threshold,
        None if exit_layer is None else whole("exit_layer", exit_layer),
        layer_list(layers),
        state,
        lossless=lossless,
    )


def layer_list(layers: Numbers) -> tuple[int, ...] | None:
    """``8``, ``[6, 8]`` or ``"6,8"`` as exit layers."""
    if layers is None:
        return None
    parts = layers.split(",") if isinstance(layers, str) else layers
    try:
        return (parts,) if isinstance(parts, int) else tuple(int(part) for part in parts)
    except (TypeError, ValueError):
        raise UserError(f"layers={layers}: give exit layers such as [6,8,10]") from None


def refuse_unknown(unknown: Mapping[str, Any]) -> None:
    """Raise ``UserError`` for an argument that means nothing here."""
    if "trust_remote_code" in unknown:
        raise UserError("trust_remote_code: dynexit runs no code of a checkpoint; leave it out")
    if unknown:
        raise UserError(f"model_args: {min(unknown)} is not known; there are {', '.join(KNOWN)}")
