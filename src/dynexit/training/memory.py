"""What a collection holds in memory, told before it begins, from shapes alone.

Numbers are upper bounds: a budget that is said to be enough is kept. Weights count whole, although
pages of mapped files could be dropped by the system.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from dynexit.errors import UserError
from dynexit.models import Backbone
from dynexit.models.backbone import STATE_BUDGET
from dynexit.models.config import AttentionConfig, BackboneConfig, LayerConfig, Mamba2Config
from dynexit.models.cost import layer_parameters
from dynexit.models.matrices import mixer_matrices, mlp_matrices
from dynexit.training.oracle import LOGITS

_RUNTIME = 64 << 20  # kernels, threads and the allocator's leftovers


@dataclass(frozen=True)
class Load:
    """The most that one shard asks for: its ``tokens`` and the ``rows`` (texts) of it that wait for
    answers, together ``capacity`` tokens long each; ``batch`` tokens with padding in one call, and
    the ``width`` of the longest text; ``states`` kept of every token."""

    tokens: int
    rows: int
    capacity: int
    batch: int
    width: int
    states: int


@dataclass(frozen=True)
class Footprint:
    """Bytes at the peak: with all layers in memory, and with one."""

    resident: int
    layerwise: int


def footprint(backbone: Backbone, load: Load) -> Footprint:
    """What collecting a shard of that load takes, what this process has already included."""
    config, size = backbone.config, backbone.dtype.itemsize
    stream = max(4, size) if config.residual_in_fp32 else size
    kept = 2 * 2 * load.tokens * load.states * config.hidden  # in pieces, and put together
    tables = (1 if config.tied else 2) * config.vocab * config.hidden * size
    layers = [layer_parameters(config, index) * size for index in range(config.depth)]
    call = load.batch * max(_token_bytes(layer, config, load, size) for layer in config.layers)
    common = _present() + _RUNTIME + kept + tables + call + 3 * 4 * LOGITS
    row = _row_bytes(backbone, load.capacity)
    at_once = min(load.rows * row, max(STATE_BUDGET, row))
    padded = 2 * max(load.tokens, load.batch) * config.hidden * stream
    return Footprint(
        common + sum(layers) + at_once, common + 2 * max(layers) + load.rows * row + padded
    )


def one_layer_at_a_time(backbone: Backbone, load: Load, budget: int) -> bool:
    """Whether a collection within ``budget`` bytes must do with one layer in memory; ``UserError``
    where that is too little, too."""
    need = footprint(backbone, load)
    if need.resident <= budget:
        return False
    if need.layerwise <= budget:
        return True
    least = min(need.layerwise, need.resident) / 1e6
    raise UserError(
        f"--memory-budget {budget / 1e6:.0f} MB is too small: a shard of {load.tokens} tokens "
        f"takes {least:.0f} MB; give that, or a smaller --shard-tokens"
    )


def peak_memory() -> int:
    """The most bytes of memory that this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB


def _present() -> int:
    """Bytes of memory that this process has now."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError):
        return peak_memory()
    return pages * os.sysconf("SC_PAGE_SIZE")


def _row_bytes(backbone: Backbone, capacity: int) -> int:
    """Bytes of the states of one text of that many tokens."""
    place = torch.device("meta")
    states = [b.new_state(1, capacity, backbone.dtype, place) for b in backbone.blocks()]
    return sum(t.nbytes for state in states if state is not None for t in state.tensors())


def _token_bytes(layer: LayerConfig, config: BackboneConfig, load: Load, size: int) -> int:
    """Bytes between the input and the output of a layer, for a token of a call."""
    matrices: Sequence[tuple[int, int]] = []
    scan = 0
    if layer.mixer is not None:
        matrices = mixer_matrices(layer.mixer, config.hidden)
        if isinstance(layer.mixer, AttentionConfig):
            fold = layer.mixer.heads // layer.mixer.kv_heads
            scan = fold * load.width * (1 + size)  # masks of a call with padding
        else:
            wide = layer.mixer.inner * 4
            chunk = (
                layer.mixer.heads * layer.mixer.chunk * 4 * 3
                if isinstance(layer.mixer, Mamba2Config)
                else 2 * wide * layer.mixer.state
            )
            scan = 8 * wide + chunk
    mixed = sum(rows for rows, _ in matrices) * size + scan
    mlp = 0 if layer.mlp is None else sum(r for r, _ in mlp_matrices(layer.mlp, config.hidden))
    return 6 * config.hidden * max(4, size) + max(mixed, 2 * mlp * size)
