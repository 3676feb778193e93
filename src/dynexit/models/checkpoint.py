"""Reading a Hugging Face checkpoint: one or many safetensors files, memory-mapped.

Tensors are views of the mapped files: loading a checkpoint of N bytes takes no second copy of it,
and pages that are never used are never read.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from dynexit.errors import UserError
from dynexit.files import read_json

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"


class Checkpoint:
    """The tensors of a checkpoint directory by name."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._files = {path: _open(path) for path in _shards(directory)}
        self._where = {name: path for path, f in self._files.items() for name in f.keys()}  # noqa: SIM118

    def __contains__(self, name: str) -> bool:
        return name in self._where

    def names(self) -> Iterable[str]:
        return self._where.keys()

    def tensor(self, names: tuple[str, ...]) -> Tensor:
        """The first of ``names`` that is there, as a view of the mapped file."""
        for name in names:
            if name in self._where:
                tensor: Tensor = self._files[self._where[name]].get_tensor(name)
                return tensor
        raise UserError(
            f"{self.directory}: tensor {names[0]!r} is missing; "
            "the checkpoint is incomplete or of another architecture than its config.json says"
        )


def _shards(directory: Path) -> list[Path]:
    index = directory / INDEX
    if index.exists():
        table = read_json(index).get("weight_map")
        if not isinstance(table, dict) or not table:
            raise UserError(f"{index}: field 'weight_map' is missing or empty; fetch the file again")
        shards = [directory / name for name in sorted(set(table.values()))]
    else:
        # Codestral Mamba's original release has this name
        single = [directory / SINGLE, directory / "consolidated.safetensors"]
        shards = [path for path in single if path.exists()][:1]
    missing = [path.name for path in shards if not path.is_file()]
    if missing:
        raise UserError(f"{directory}: shard {missing[0]} is missing; fetch the checkpoint again")
    if not shards:
        pickled = any(directory.glob("*.bin"))
        cure = "convert it to safetensors (pickled weights are never loaded)" if pickled else (
            f"expected {SINGLE} or {INDEX}"
        )
        raise UserError(f"{directory}: no safetensors weights here; {cure}")
    return shards


def _open(path: Path):  # type: ignore[no-untyped-def]
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path}: not a whole safetensors file ({error}); fetch it again"
        ) from None


def cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor in ``dtype``, itself where it already is."""
    return tensor if tensor.dtype == dtype else tensor.to(dtype)
