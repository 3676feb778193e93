"""The shape of a backbone, whatever its family.

A family is no class here: ``families.py`` reads a checkpoint's ``config.json`` into these
dataclasses, and every other file works from them alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from dynexit.models.quantization import QuantizationConfig


@dataclass(frozen=True)
class RopeConfig:
    """Rotary position embedding; ``scaling`` holds the checkpoint's ``rope_parameters``."""

    theta: float
    dim: int
    max_positions: int
    kind: str = "default"
    scaling: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AttentionConfig:
    """Causal attention with grouped key/value heads.

    ``window`` is the sliding window in tokens (None: unlimited); ``scale`` multiplies the scores.
    """

    heads: int
    kv_heads: int
    head_dim: int
    scale: float
    rope: RopeConfig | None
    qkv_bias: bool = False
    output_bias: bool = False
    qk_norm: bool = False
    window: int | None = None


@dataclass(frozen=True)
class MambaConfig:
    """Selective state space of Mamba (Gu and Dao 2023).

    ``bcdt_norm`` is how B, C and the time step are normalised before use: None, ``"weightless"``
    (Falcon-Mamba) or ``"learned"`` (Jamba).
    """

    inner: int
    state: int
    conv_kernel: int
    dt_rank: int
    bias: bool = False
    conv_bias: bool = True
    bcdt_norm: str | None = None
    bcdt_norm_eps: float = 1e-6


@dataclass(frozen=True)
class Mamba2Config:
    """State space duality layer of Mamba-2 (Dao and Gu 2024), ``inner = heads * head_dim``.

    ``out`` is the width of the output projection (None: the hidden size).
    """

    heads: int
    head_dim: int
    state: int
    groups: int
    conv_kernel: int
    chunk: int = 64
    bias: bool = False
    conv_bias: bool = True
    norm_eps: float = 1e-5
    dt_min: float = 0.0
    dt_max: float = float("inf")
    out: int | None = None

    @property
    def inner(self) -> int:
        return self.heads * self.head_dim

    @property
    def conv_dim(self) -> int:
        return self.inner + 2 * self.groups * self.state


@dataclass(frozen=True)
class MlpConfig:
    """Feed-forward block; ``gated`` has a gate projection beside the up projection (SwiGLU)."""

    intermediate: int
    activation: str = "silu"
    gated: bool = True
    bias: bool = False


MixerConfig = AttentionConfig | MambaConfig | Mamba2Config


@dataclass(frozen=True)
class LayerConfig:
    """One layer: an optional mixer, then an optional MLP, each with its own norm and residual."""

    mixer: MixerConfig | None
    mlp: MlpConfig | None = None


@dataclass(frozen=True)
class BackboneConfig:
    """A decoder language model, from embedding to output projection.

    ``quantization`` is how its matrices are stored (None: as ``dtype``).
    """

    family: str
    vocab: int
    hidden: int
    layers: tuple[LayerConfig, ...]
    norm_eps: float
    tied: bool
    max_positions: int | None = None
    embedding_multiplier: float = 1.0
    residual_multiplier: float = 1.0
    logits_divisor: float = 1.0
    residual_in_fp32: bool = False
    dtype: torch.dtype = torch.float32
    quantization: QuantizationConfig | None = None

    @property
    def depth(self) -> int:
        return len(self.layers)

    def mixer_kinds(self) -> set[type]:
        """The kinds of mixer this backbone has, e.g. ``{AttentionConfig}``."""
        return {type(layer.mixer) for layer in self.layers if layer.mixer is not None}
