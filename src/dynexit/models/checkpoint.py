"""Reading a Hugging Face checkpoint: one or many safetensors files, memory-mapped.

Tensors are views of the mapped files: loading a checkpoint of N bytes takes no second copy of it,
and pages that are never used are never read.
"""

from __future__ import annotations

from collections.abc import Iterable
from os.path import isfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from dynexit.errors import UserError
from dynexit.files import read_json

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
CONSOLIDATED = "consolidated.safetensors"  # of Codestral Mamba's original release


class Checkpoint:
    """The tensors of a checkpoint directory by name."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._files = {path: open_shard(path) for path in shards(directory)}
        self._where = {name: path for path, f in self._files.items() for name in f.keys()}  # noqa: SIM118

    def __contains__(self, name: str) -> bool:
        return name in self._where

    def names(self) -> Iterable[str]:
        return self._where.keys()

    def tensor(self, names: tuple[str, ...]) -> tuple[str, Tensor]:
        """The first of ``names`` that is there, and its tensor, a view of the mapped file."""
        for name in names:
            if name in self._where:
                return name, self._files[self._where[name]].get_tensor(name)
        raise UserError(
            f"{self.directory}: tensor {names[0]!r} is missing; "
            "the checkpoint is incomplete or of another architecture than its config.json says"
        )


def shards(directory: Path) -> list[Path]:
    """The files that hold the tensors of a checkpoint."""
    index = directory / INDEX
    if index.exists():
        found = [directory / name for name in _indexed(index)]
        missing = [path.name for path in found if not isfile(path)]
        if missing:
            raise UserError(
                f"{directory}: shard {missing[0]} is missing; fetch the checkpoint again"
            )
        return found
    for name in (SINGLE, CONSOLIDATED):
        if (directory / name).is_file():
            return [directory / name]
    cure = f"expected {SINGLE} or {INDEX}"
    if any(directory.glob("*.bin")) or any(directory.glob("*.pt*")):
        cure = "convert it to safetensors (pickled weights are never loaded)"
    raise UserError(f"{directory}: no safetensors weights here; {cure}")


def _indexed(index: Path) -> list[str]:
    """Names of the shards that the index tells of."""
    table = read_json(index).get("weight_map")
    if not isinstance(table, dict) or not table:
        raise UserError(f"{index}: field 'weight_map' is missing or empty; fetch the file again")
    strange = [n for n in table.values() if not isinstance(n, str) or Path(n).name != n]
    if strange:
        raise UserError(
            f"{index}: field 'weight_map' holds {strange[0]!r}, which is no name of a shard; "
            "fetch the file again"
        )
    return sorted(set(table.values()))


def open_shard(path: Path) -> Any:
    """A safetensors file, memory-mapped for as long as it or a tensor of it is held."""
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a whole safetensors file ({error}); fetch it again") from None


def cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor in ``dtype``, itself where it already is."""
    return tensor if tensor.dtype == dtype else tensor.to(dtype)
