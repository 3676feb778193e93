"""Layers one at a time: for a model that is larger than the memory it may take.

The weights stay mapped files. A layer's are brought in (and cast, or moved to a GPU) when it is to
run, and their pages are given back behind it, while the system reads the next layer's ahead. So a
pass over all layers reads the checkpoint once, at the disk's speed, and is worth it for many tokens
at a time.
"""

from __future__ import annotations

import copy
import ctypes
import mmap
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from dynexit.models.attention import Attention
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
        stored = self._blocks[index]
        following = self._blocks[(index + 1) % len(self._blocks)]
        self._advise(following, mmap.MADV_WILLNEED)
        try:
            yield self._ready(stored)
        finally:
            self._advise(stored, mmap.MADV_DONTNEED)

    def _ready(self, stored: Block) -> Block:
        """A copy of the layer that runs, and takes all that it prepared from its weights with it
        when it goes."""
        same: dict[int, object] = {
            id(parameter): nn.Parameter(
                _as_run(name, parameter, self._dtype).to(self._device), requires_grad=False
            )
            for name, parameter in stored.named_parameters()
        }
        if isinstance(stored.mixer, Attention) and stored.mixer.rope is not None:
            same[id(stored.mixer.rope)] = stored.mixer.rope  # all layers read one table
        return copy.deepcopy(stored, same)

    def _advise(self, block: Block, advice: int) -> None:
        """Tell the system about the whole pages of a layer; only about those that it can read
        again, since advice about other memory would lose what is in it."""
        for parameter in block.parameters():
            begin = -(-parameter.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
            end = (parameter.data_ptr() + parameter.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
            if begin < end and any(low <= begin and end <= high for low, high in self._mapped):
                ctypes.CDLL(None).madvise(
                    ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), advice
                )


def bring_in(backbone: Backbone, layers: range | None = None) -> None:
    """Take all ``layers`` (from 0; None: every one) of a backbone that was left on disk as
    ``load_backbone`` would have."""
    wanted = range(backbone.depth) if layers is None else layers
    for block in backbone.blocks()[wanted.start : wanted.stop]:
        for name, parameter in dict(block.named_parameters()).items():
            ready = _as_run(name, parameter, backbone.dtype).to(backbone.device)
            assign(block, name, nn.Parameter(ready, requires_grad=False))


def _as_run(name: str, parameter: nn.Parameter, dtype: torch.dtype) -> Tensor:
    """A stored parameter in the type that it is computed in."""
    return parameter.data if name.rpartition(".")[2] in STORED else cast(parameter.data, dtype)


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
