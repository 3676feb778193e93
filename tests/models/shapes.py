"""Small backbones of every kind of mixer, built from configurations alone."""

from __future__ import annotations

import torch

from dynexit.models import Backbone, BackboneConfig, Cache
from dynexit.models.config import (
    AttentionConfig,
    LayerConfig,
    Mamba2Config,
    MambaConfig,
    MixerConfig,
    MlpConfig,
    RopeConfig,
)
from models.zoo import randomise

HIDDEN = 24
_ROPE = RopeConfig(theta=1000.0, dim=8, max_positions=128)
MIXERS: dict[str, MixerConfig] = {
    "attention": AttentionConfig(4, 2, 8, 8**-0.5, _ROPE),
    "window": AttentionConfig(4, 2, 8, 8**-0.5, _ROPE, qk_norm=True, qkv_bias=True, window=5),
    "mamba": MambaConfig(inner=48, state=6, conv_kernel=4, dt_rank=3),
    "mamba2": Mamba2Config(heads=4, head_dim=8, state=6, groups=2, conv_kernel=4, chunk=8),
    "mamba2-narrow": Mamba2Config(
        heads=3, head_dim=8, state=6, groups=1, conv_kernel=2, chunk=4, bias=True, dt_min=0.02
    ),
}


def small_backbone(kind: str, depth: int = 2) -> Backbone:
    """A frozen random backbone of ``depth`` layers, each with the mixer ``kind`` and an MLP."""
    layers = (LayerConfig(MIXERS[kind], MlpConfig(32)),) * depth
    config = BackboneConfig("test", 50, HIDDEN, layers, norm_eps=1e-5, tied=False)
    backbone = Backbone(config).eval().requires_grad_(False)
    randomise(backbone, seed=len(kind))
    return backbone


def random_hidden(*shape: int, seed: int = 0) -> torch.Tensor:
    """Hidden states [*shape, HIDDEN]."""
    return torch.randn(*shape, HIDDEN, generator=torch.Generator().manual_seed(seed))


def run(
    backbone: Backbone,
    cache: Cache,
    hidden: torch.Tensor,
    starts: list[int],
    lengths: list[int] | None = None,
    rows: list[int] | None = None,
) -> torch.Tensor:
    """All layers on ``hidden`` [B, T, HIDDEN]."""
    lengths = [hidden.shape[1]] * hidden.shape[0] if lengths is None else lengths
    place = backbone.place(starts, lengths, rows)
    return backbone.run(hidden, cache, 0, backbone.depth, place)


def assert_same_cache(one: Cache, other: Cache) -> None:
    """Equal states in every layer, up to the order of additions."""
    for ours, theirs in zip(one.states, other.states, strict=True):
        assert ours is not None
        assert theirs is not None
        for x, y in zip(ours.tensors(), theirs.tensors(), strict=True):
            torch.testing.assert_close(x, y, atol=1e-5, rtol=1e-5)
