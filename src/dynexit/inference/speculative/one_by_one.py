"""Layers run on one token at a time, whatever is asked for at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dynexit.models.backbone import Backbone
from dynexit.models.cache import Cache
from dynexit.models.config import BackboneConfig
from dynexit.models.placement import Placement


class OneByOne:
    """Stands where the backbone stood (``models.layers.Layers``). A product of several tokens may
    round otherwise than that of one; here every token has the arithmetic of one alone."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone

    @property
    def config(self) -> BackboneConfig:
        return self.backbone.config

    @property
    def depth(self) -> int:
        return self.backbone.depth

    def place(
        self,
        starts: Sequence[int],
        lengths: Sequence[int],
        rows: Sequence[int] | None = None,
    ) -> Placement:
        return self.backbone.place(starts, lengths, rows)

    def run(self, hidden: Tensor, cache: Cache, start: int, stop: int, place: Placement) -> Tensor:
        out = torch.zeros_like(hidden)
        for b, t, one in self._singles(place, cache):
            token = hidden[b : b + 1, t : t + 1]
            out[b, t] = self.backbone.run(token, cache, start, stop, one)[0, 0]
        return out

    def advance(
        self, hidden: Tensor, cache: Cache, start: int, stop: int, place: Placement
    ) -> None:
        for b, t, one in self._singles(place, cache):
            self.backbone.advance(hidden[b : b + 1, t : t + 1], cache, start, stop, one)

    def _singles(self, place: Placement, cache: Cache) -> list[tuple[int, int, Placement]]:
        """Row and column of every token of a call, and where it sits."""
        rows = range(place.batch) if place.numbers is None else place.numbers
        alone = cache.rows == 1
        return [
            (b, t, self.backbone.place([place.starts[b] + t], [1], None if alone else [row]))
            for b, row in enumerate(rows)
            for t in range(place.lengths[b])
        ]
