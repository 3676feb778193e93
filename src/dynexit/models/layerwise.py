"""Layers one at a time: for a model that is larger than the memory it may take.

The weights stay mapped files. A layer's are brought in (and cast, or moved to a GPU) when it is to
run, and their pages are given back behind it, while the system reads the next layer's ahead. So a
pass over all layers reads the checkpoint once, at the disk's speed, and is worth it for many tokens
at a time.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

from dynexit.models.backbone import Backbone
from dynexit.models.block import Block
from dynexit.models.checkpoint import cast
from dynexit.models.quantized import STORED

Ranges = tuple[tuple[int, int], ...]


class LayerAccess(Protocol):
    """Gives a backbone's layers, each for as long as it is used."""

    def layer(self, index: int) -> AbstractContextManager[Block]:
        """Layer ``index`` (from 0), ready to run."""
        ...


class AllLayers:
    """All layers stay where they are."""

    def __init__(self, backbone: Backbone) -> None:
        self._blocks = backbone.blocks()

    def layer(self, index: int) -> AbstractContextManager[Block]:
        """Layer ``index`` (from 0)."""
        return nullcontext(self._blocks[index])


class OneLayer:
    """One layer is in memory at a time, from a backbone that ``load_backbone`` left on disk."""

    def __init__(self, backbone: Backbone) -> None:
        self._blocks = backbone.blocks()
        self._device, self._dtype = backbone.device, backbone.dtype
        self._mapped = _mapped_files()

    @contextmanager
    def layer(self, index: int) -> Iterator[Block]:
        """Layer ``index`` (from 0), in the backbone's dtype and on its device."""
        block = self._blocks[index]
        following = self._blocks[(index + 1) % len(self._blocks)]
        self._advise(dict(following.named_parameters()), mmap.MADV_WILLNEED)
        stored = dict(block.named_parameters())
        for name, parameter in stored.items():
            kept = name.rpartition(".")[2] in STORED
            ready = (parameter.data if kept else cast(parameter.data, self._dtype)).to(self._device)
            assign(block, name, nn.Parameter(ready, requires_grad=False))
        try:
            yield block
        finally:
            for name, parameter in stored.items():
                assign(block, name, parameter)
            self._advise(stored, mmap.MADV_DONTNEED)

    def _advise(self, parameters: Mapping[str, Tensor], advice: int) -> None:
        """Tell the system about the whole pages of these; only about those that it can read again,
        since advice about other memory would lose what is in it."""
        for parameter in parameters.values():
            begin = -(-parameter.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
            end = (parameter.data_ptr() + parameter.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
            if begin < end and any(low <= begin and end <= high for low, high in self._mapped):
                ctypes.CDLL(None).madvise(
                    ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), advice
                )


def bring_in(backbone: Backbone) -> None:
    """Take all layers of a backbone that was left on disk as ``load_backbone`` would have."""
    for block in backbone.blocks():
        for name, parameter in dict(block.named_parameters()).items():
            kept = name.rpartition(".")[2] in STORED
            ready = parameter.data if kept else cast(parameter.data, backbone.dtype)
            assign(block, name, nn.Parameter(ready.to(backbone.device), requires_grad=False))


def assign(module: nn.Module, name: str, value: nn.Module | nn.Parameter) -> None:
    """Put ``value`` where the dotted ``name`` points to in ``module``."""
    path, _, last = name.rpartition(".")
    setattr(module.get_submodule(path), last, value)


def _mapped_files() -> Ranges:
    """Where safetensors files are mapped in this process; nowhere where the system won't say."""
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ()
    spans = [line.split(maxsplit=1)[0].split("-") for line in lines if ".safetensors" in line]
    joined: list[tuple[int, int]] = []
    for low, high in ((int(low, 16), int(high, 16)) for low, high in spans):
        if joined and joined[-1][1] == low:  # one mapping, of which some pages differ in rights
            joined[-1] = joined[-1][0], high
        else:
            joined.append((low, high))
    return tuple(joined)
