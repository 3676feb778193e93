"""What becomes of the layers that a token skipped: what they are told of it, so that later tokens
can still attend to it or carry its state.

============  =======================================================================
copy          keys and values of the exit layer stand for those of every skipped layer
propagate     the exit's hidden state updates the state of each skipped layer, nothing else of
              the layer is computed (key/value projections; convolution and SSM update)
freeze        the state of skipped state-space layers stays as it was
recompute     the token waits at its exit; when a later token goes deeper, the waiting ones go
              along in the same batch. The states are those of the full model
============  =======================================================================

Copy, propagate and freeze are the paper's (DYNAMAX, arXiv 2504.20922); copy is CALM's too
(Schuster et al. 2022), and recompute is exact as synchronised decoding is (FREE, Bae et al. 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from dynexit.errors import UserError
from dynexit.models.cache import AttentionState, Cache
from dynexit.models.config import AttentionConfig, BackboneConfig
from dynexit.models.layers import Layers
from dynexit.models.placement import Placement

NAMES = ("copy", "propagate", "freeze", "recompute")


class SkippedStateSession(Protocol):
    """A policy at work on one cache. ``hidden`` is [B, 1, hidden], one token of each row."""

    def run(self, hidden: Tensor, start: int, stop: int, place: Placement) -> Tensor:
        """Run layers ``start`` < l <= ``stop`` for the tokens at ``place``."""
        ...

    def leave(self, hidden: Tensor, layer: int, place: Placement) -> None:
        """These tokens leave after ``layer``."""
        ...

    def keep(self, rows: Sequence[int]) -> None:
        """Only these rows go on, in this order."""
        ...

    def clear(self, row: int) -> None:
        """The row's text is over; another may begin in its place."""
        ...

    def catch_up(self, row: int) -> int:
        """Layers run for earlier tokens of a row since last asked, in tokens times layers."""
        ...


class SkippedState(Protocol):
    """A policy for the states of skipped layers."""

    @property
    def name(self) -> str: ...

    def check(self, config: BackboneConfig) -> None:
        """Raise ``UserError`` where the policy has no meaning for these layers."""
        ...

    def session(self, backbone: Layers, cache: Cache) -> SkippedStateSession: ...


def skipped_state(name: str) -> SkippedState:
    """The policy of that name, or ``UserError``."""
    policies: dict[str, SkippedState] = {p.name: p for p in (Copy(), Propagate(), Freeze())}
    from dynexit.exits.recompute import Recompute

    policies["recompute"] = Recompute()
    if name not in policies:
        raise UserError(f"state policy {name!r} is not known; choose from {', '.join(NAMES)}")
    return policies[name]


class _Session:
    """Runs layers as they are; what happens at an exit is the subclass's."""

    def __init__(self, backbone: Layers, cache: Cache) -> None:
        self.backbone = backbone
        self.cache = cache

    def run(self, hidden: Tensor, start: int, stop: int, place: Placement) -> Tensor:
        return self.backbone.run(hidden, self.cache, start, stop, place)

    def leave(self, hidden: Tensor, layer: int, place: Placement) -> None:
        pass

    def keep(self, rows: Sequence[int]) -> None:
        pass

    def clear(self, row: int) -> None:
        pass

    def catch_up(self, row: int) -> int:
        return 0


class _CopySession(_Session):
    def leave(self, hidden: Tensor, layer: int, place: Placement) -> None:
        source = self.cache.states[layer - 1]
        assert isinstance(source, AttentionState)
        rows, at = place.scatter
        keys, values = source.k[rows, :, at], source.v[rows, :, at]
        for state in self.cache.states[layer:]:
            assert isinstance(state, AttentionState)
            state.k[rows, :, at] = keys
            state.v[rows, :, at] = values


class _PropagateSession(_Session):
    def leave(self, hidden: Tensor, layer: int, place: Placement) -> None:
        self.backbone.advance(hidden, self.cache, layer, self.backbone.depth, place)


class Copy:
    """Keys and values of the exit layer, copied into every skipped layer."""

    name = "copy"

    def check(self, config: BackboneConfig) -> None:
        shapes = {
            (m.kv_heads, m.head_dim) if isinstance(m := layer.mixer, AttentionConfig) else None
            for layer in config.layers
        }
        if None in shapes or len(shapes) > 1:
            raise UserError(
                f"state policy 'copy' needs attention of one shape in every layer; {config.family} "
                "has other layers: use propagate or recompute"
            )

    def session(self, backbone: Layers, cache: Cache) -> SkippedStateSession:
        self.check(backbone.config)
        if None in cache.states:
            raise UserError(
                "state policy 'copy' needs all layers in one process: use propagate or recompute"
            )
        return _CopySession(backbone, cache)


class Propagate:
    """The exit's hidden state updates the state of every skipped layer."""

    name = "propagate"

    def check(self, config: BackboneConfig) -> None:
        return None

    def session(self, backbone: Layers, cache: Cache) -> SkippedStateSession:
        return _PropagateSession(backbone, cache)


class Freeze:
    """The states of skipped state-space layers stay as they were."""

    name = "freeze"

    def check(self, config: BackboneConfig) -> None:
        if AttentionConfig in config.mixer_kinds():
            raise UserError(
                f"state policy 'freeze' has no meaning for attention, which {config.family} has: "
                "use propagate or recompute"
            )

    def session(self, backbone: Layers, cache: Cache) -> SkippedStateSession:
        self.check(backbone.config)
        return _Session(backbone, cache)
