"""A model whose later layers change nothing, so that an exit before them is always right."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import nn

from dynexit.models.attention import Attention
from dynexit.models.backbone import Backbone
from dynexit.models.block import Block
from dynexit.models.config import BackboneConfig


def identity_after(backbone: Backbone, layer: int) -> Backbone:
    """The backbone with zeros for what layers after ``layer`` add to the hidden states.

    All other weights are shared, and every layer reads as many bytes as before.
    """
    shared = {id(t): t for t in (*backbone.parameters(), *backbone.buffers())}
    silent = copy.deepcopy(backbone, shared)
    for block in silent.blocks()[layer:]:
        for output in _outputs(block):
            for name in ("weight", "scales", "zeros", "bias"):  # of a plain or quantised matrix
                if isinstance(value := getattr(output, name, None), nn.Parameter):
                    setattr(output, name, _zeros(value))
    return silent


def identity_bytes(config: BackboneConfig, layer: int) -> int:
    """Bytes that ``identity_after`` takes beside the model itself, unless that is quantised: then
    it is less."""
    with torch.device("meta"):
        backbone = Backbone(config)
    later = (output for block in backbone.blocks()[layer:] for output in _outputs(block))
    return sum(p.numel() for output in later for p in output.parameters()) * config.dtype.itemsize


def _outputs(block: Block) -> Iterator[nn.Module]:
    """What writes to the hidden states."""
    if (mixer := block.mixer) is not None:
        yield mixer.o_proj if isinstance(mixer, Attention) else mixer.out_proj
    if block.mlp is not None:
        yield block.mlp.down_proj


def _zeros(like: nn.Parameter) -> nn.Parameter:
    # written, as memory that was never written to is one page of zeros, and costs nothing to read
    return nn.Parameter(torch.empty_like(like).fill_(0), requires_grad=False)
