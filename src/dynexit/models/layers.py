"""What state policies and decoding need of a backbone: to run some of its layers on a cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from dynexit.models.cache import Cache
from dynexit.models.config import BackboneConfig
from dynexit.models.placement import Placement


class Layers(Protocol):
    """A ``Backbone``, or something that runs its layers in another way."""

    @property
    def config(self) -> BackboneConfig:
        """The shape of the model."""
        ...

    @property
    def depth(self) -> int:
        """Number of layers."""
        ...

    def place(
        self,
        starts: Sequence[int],
        lengths: Sequence[int],
        rows: Sequence[int] | None = None,
    ) -> Placement:
        """Where the tokens of a call sit; see ``Placement``."""
        ...

    def run(self, hidden: Tensor, cache: Cache, start: int, stop: int, place: Placement) -> Tensor:
        """Run layers ``start`` < l <= ``stop`` on [B, T, hidden], updating their states."""
        ...

    def advance(
        self, hidden: Tensor, cache: Cache, start: int, stop: int, place: Placement
    ) -> None:
        """Update only the states of those layers, as if each had ``hidden`` for its input."""
        ...
