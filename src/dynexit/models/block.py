"""One layer: norm, mixer, residual; norm, MLP, residual; either half may be absent."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dynexit.models.attention import Attention
from dynexit.models.cache import LayerState, RecurrentState
from dynexit.models.config import AttentionConfig, BackboneConfig, Mamba2Config, MixerConfig
from dynexit.models.fused import Fused
from dynexit.models.mamba import Mamba
from dynexit.models.mamba2 import Mamba2
from dynexit.models.mlp import Mlp
from dynexit.models.norm import RmsNorm
from dynexit.models.placement import Placement

Mixer = Attention | Mamba | Mamba2


def build_mixer(config: MixerConfig, hidden: int, eps: float) -> Mixer:
    """The module of a mixer configuration."""
    if isinstance(config, AttentionConfig):
        return Attention(config, hidden, eps)
    return Mamba2(config, hidden) if isinstance(config, Mamba2Config) else Mamba(config, hidden)


class Block(nn.Module):
    """A layer of the backbone. ``forward`` runs it; ``advance`` only updates its state."""

    def __init__(self, config: BackboneConfig, index: int) -> None:
        super().__init__()
        layer, hidden, eps = config.layers[index], config.hidden, config.norm_eps
        self.scale = config.residual_multiplier
        self.mixer_norm = RmsNorm(hidden, eps) if layer.mixer is not None else None
        self.mixer = build_mixer(layer.mixer, hidden, eps) if layer.mixer is not None else None
        self.mlp_norm = RmsNorm(hidden, eps) if layer.mlp is not None else None
        self.mlp = Mlp(layer.mlp, hidden) if layer.mlp is not None else None
        self._fused = Fused()

    def new_state(
        self, rows: int, capacity: int, dtype: torch.dtype, device: torch.device
    ) -> LayerState | None:
        return None if self.mixer is None else self.mixer.new_state(rows, capacity, dtype, device)

    def forward(self, hidden: Tensor, state: LayerState | None, place: Placement) -> Tensor:
        """``hidden`` [B, T, hidden] -> the same after this layer."""
        done = self._fused.forward(self, hidden, state, place)
        return self._by_parts(hidden, state, place) if done is None else done

    def is_one_call(self, hidden: Tensor, state: LayerState | None, place: Placement) -> bool:
        """Whether ``forward`` of these tokens is one call of our own kernels."""
        return self._fused.can_run(self, hidden, state, place)

    def _by_parts(self, hidden: Tensor, state: LayerState | None, place: Placement) -> Tensor:
        if self.mixer is not None and self.mixer_norm is not None:
            mixed = self.mixer(self.mixer_norm(hidden), state, place)
            hidden = self._add(hidden, mixed)
        if self.mlp is not None and self.mlp_norm is not None:
            hidden = self._add(hidden, self.mlp(self.mlp_norm(hidden)))
        return hidden

    def advance(self, hidden: Tensor, state: LayerState | None, place: Placement) -> None:
        """Update the layer's state for these tokens and compute nothing else."""
        if self._fused.advance(self, hidden, state, place):
            return
        if self.mixer is not None and self.mixer_norm is not None:
            self.mixer.advance(self.mixer_norm(hidden), state, place)  # type: ignore[arg-type]

    def replay(self, inputs: Tensor, state: RecurrentState, place: Placement) -> None:
        """Update a recurrent state by what its trail remembers of these tokens."""
        assert isinstance(self.mixer, (Mamba, Mamba2))
        self.mixer.replay(inputs, state, place)

    def _add(self, hidden: Tensor, update: Tensor) -> Tensor:
        return hidden + (update if self.scale == 1.0 else update * self.scale)
