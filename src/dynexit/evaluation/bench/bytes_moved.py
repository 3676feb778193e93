"""Bytes that a token moves when it leaves at a fixed layer, from the model's shapes."""

from __future__ import annotations

import torch

from dynexit.exits.policy import ExitPolicy
from dynexit.inference.cost import judge_bytes
from dynexit.models.config import BackboneConfig
from dynexit.models.cost import advance_cost, embedding_cost, layer_cost, readout_cost


class BytesMoved:
    """Weights and state of one token with ``context`` tokens before it, each moved once.

    ``dtype`` is that of weights that are not quantised (None: the checkpoint's own).
    """

    def __init__(self, config: BackboneConfig, dtype: torch.dtype | None, context: int) -> None:
        self._depth = config.depth
        size = (config.dtype if dtype is None else dtype).itemsize
        self._layers = [layer_cost(config, i, context, size) for i in range(config.depth)]
        self._advances = [advance_cost(config, i, size) for i in range(config.depth)]
        self._ends = embedding_cost(config, size).bytes + readout_cost(config, size).bytes

    def full(self) -> int:
        """At full depth."""
        return self._upto(self._depth)

    def leaving(self, layer: int, policy: ExitPolicy) -> int:
        """Leaving after ``layer`` layers by the only exit of ``policy``: layers run, readout,
        check, and what the state policy does for skipped layers at once. What recompute puts off
        is not counted: a token that goes deeper reads those weights anyway."""
        size = self._upto(layer) + judge_bytes(policy).bytes
        skipped = self._advances[layer:]
        if policy.state.name == "propagate":
            size += sum(cost.bytes for cost in skipped)
        elif policy.state.name == "copy":
            size += sum(cost.state_bytes for cost in skipped)
        return size

    def state(self) -> int:
        """Of the states alone, at full depth."""
        return sum(cost.state_bytes for cost in self._layers)

    def _upto(self, layer: int) -> int:
        return sum(cost.bytes for cost in self._layers[:layer]) + self._ends
