"""A backbone whose layers are divided among processes, for a model beyond one GPU or machine.

Each process holds a stage, a row of layers, with their caches; embedding, norm and head are in all
of them. All run the same program on the same tokens: a stage's layers are computed where they are,
and the hidden states behind them told to everyone, so that every process judges, reads out and
decides alike. Stages behind a token's exit are not asked at all: nothing is computed or sent.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from dynexit.errors import UserError
from dynexit.models.backbone import Backbone
from dynexit.models.cache import Cache
from dynexit.models.config import BackboneConfig
from dynexit.models.cost import layer_parameters
from dynexit.models.layerwise import bring_in
from dynexit.models.placement import Placement


def divide_layers(config: BackboneConfig, stages: int) -> list[range]:
    """The layers (from 0) of each stage, with nearly as many parameters in each."""
    if stages > config.depth:
        raise UserError(
            f"{stages} processes share a model of {config.depth} layers; start at most one a layer"
        )
    sizes = [layer_parameters(config, index) for index in range(config.depth)]
    bounds, before, total = [0], 0, sum(sizes)
    for index, size in enumerate(sizes):
        goal, left = total * len(bounds) / stages, stages - len(bounds)
        full = before + size / 2 > goal or config.depth - index == left
        if left and index > bounds[-1] and full:
            bounds.append(index)
        before += size
    return [range(low, high) for low, high in zip(bounds, [*bounds[1:], config.depth], strict=True)]


class StagedBackbone(Backbone):
    """The stage of this process of ``backbone``, which ``load_backbone`` left on disk; ``mesh`` has
    one dimension, the stages. Takes this process's layers into memory; the others stay where they
    are and are not read."""

    def __init__(self, backbone: Backbone, mesh: DeviceMesh) -> None:
        with torch.device("meta"):
            super().__init__(backbone.config)
        self.embedding, self.layers = backbone.embedding, backbone.layers
        self.norm, self.head = backbone.norm, backbone.head
        self.stages = divide_layers(backbone.config, mesh.size())
        self._group, self._stage = mesh.get_group(), mesh.get_local_rank()
        bring_in(backbone, self.own)
        self.eval()

    @property
    def own(self) -> range:
        """The layers (from 0) that are here."""
        return self.stages[self._stage]

    def new_cache(self, rows: int, capacity: int) -> Cache:
        """A cache of the layers that are here; the others have no state in it."""
        states = [
            block.new_state(rows, capacity, self.dtype, self.device) if index in self.own else None
            for index, block in enumerate(self.blocks())
        ]
        return Cache(states, rows, capacity)

    def run(
        self, hidden: Tensor, cache: Cache | None, start: int, stop: int, place: Placement
    ) -> Tensor:
        """As ``Backbone.run``, each layer where it is; the same hidden states for all."""
        for stage, part in self._parts(start, stop):
            if stage == self._stage:
                hidden = super().run(hidden, cache, part.start, part.stop, place).contiguous()
            else:
                hidden = torch.empty_like(hidden, memory_format=torch.contiguous_format)
            # as bytes, since not every backend knows every type
            dist.broadcast(hidden.view(torch.uint8), group=self._group, group_src=stage)
        return hidden

    def advance(
        self, hidden: Tensor, cache: Cache, start: int, stop: int, place: Placement
    ) -> None:
        """As ``Backbone.advance``, of the layers that are here."""
        for stage, part in self._parts(start, stop):
            if stage == self._stage:
                super().advance(hidden, cache, part.start, part.stop, place)

    def _parts(self, start: int, stop: int) -> Iterator[tuple[int, range]]:
        """The stages of layers ``start`` < l <= ``stop``, and what of each is among them."""
        for stage, layers in enumerate(self.stages):
            part = range(max(start, layers.start), min(stop, layers.stop))
            if part:
                yield stage, part
