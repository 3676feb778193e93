"""Caches for benchmarks: how many bytes they have, and filled without running a prefill."""

from __future__ import annotations

import torch

from dynexit.models.backbone import Backbone
from dynexit.models.cache import Cache
from dynexit.models.config import BackboneConfig

_SPREAD = 0.1  # of the numbers, as small as a trained model's, so that nothing overflows


def state_bytes(config: BackboneConfig, capacity: int, dtype: torch.dtype | None) -> int:
    """Bytes of the states of one text of at most ``capacity`` tokens."""
    place = torch.device("meta")
    with place:
        backbone = Backbone(config)
    kept = config.dtype if dtype is None else dtype
    states = [block.new_state(1, capacity, kept, place) for block in backbone.blocks()]
    return Cache(states, 1, capacity).nbytes()


def fill(cache: Cache) -> None:
    """Random numbers in every state, as if a text had been read; how long a step takes does not
    depend on which numbers they are."""
    block = torch.empty(1 << 20).normal_(std=_SPREAD)
    for state in cache.states:
        for tensor in () if state is None else state.tensors():
            flat = tensor.view(-1)
            for begin in range(0, len(flat), len(block)):
                part = flat[begin : begin + len(block)]
                part.copy_(block[: len(part)])
