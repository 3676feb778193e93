"""What families have in common in ``config.json``: reading one field or one part of a layer."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch

from dynexit.errors import UserError
from dynexit.models.config import (
    AttentionConfig,
    BackboneConfig,
    LayerConfig,
    MixerConfig,
    MlpConfig,
    RopeConfig,
)
from dynexit.models.quantization import read_quantization
from dynexit.models.rope import check_rope

Raw = dict[str, Any]

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}


def read_backbone(raw: Raw, layers: tuple[LayerConfig, ...], **more: Any) -> BackboneConfig:
    """The whole backbone around ``layers``; ``more`` overrides what is read."""
    eps: Any = raw.get("rms_norm_eps", raw.get("layer_norm_epsilon", 1e-5))
    dtype = raw.get("dtype") or raw.get("torch_dtype") or "float32"
    if dtype not in DTYPES:
        raise UserError(f"config.json: dtype {dtype!r} is not supported; use {', '.join(DTYPES)}")
    defaults: dict[str, Any] = {
        "tied": bool(raw.get("tie_word_embeddings", False)),
        "max_positions": raw.get("max_position_embeddings"),
    }
    return BackboneConfig(
        family=raw["model_type"],
        vocab=int(raw["vocab_size"]),
        hidden=int(raw["hidden_size"]),
        layers=layers,
        norm_eps=float(eps),
        dtype=DTYPES[dtype],
        quantization=read_quantization(raw),
        **(defaults | more),
    )


def read_rope(raw: Raw, head_dim: int, partial: float = 1.0) -> RopeConfig:
    """Rotary positions, as newer (``rope_parameters``) or older (``rope_theta`` and
    ``rope_scaling``) configurations say them; ``partial`` is the family's own share of
    ``head_dim`` that is rotated, where the configuration says none."""
    scaling = dict(raw.get("rope_parameters") or raw.get("rope_scaling") or {})
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    check_rope(kind, scaling)
    theta = float(scaling.get("rope_theta") or raw.get("rope_theta") or 10000.0)
    share = scaling.get("partial_rotary_factor") or raw.get("partial_rotary_factor") or partial
    limit = int(raw.get("max_position_embeddings") or 2048)
    return RopeConfig(theta, int(head_dim * share), limit, kind, scaling)


def read_attention(raw: Raw, **more: Any) -> AttentionConfig:
    """Grouped-head attention; ``more`` overrides what is read."""
    heads = int(raw["num_attention_heads"])
    head_dim = int(raw.get("head_dim") or raw["hidden_size"] // heads)
    bias = bool(raw.get("attention_bias", False))
    values: dict[str, Any] = {
        "scale": head_dim**-0.5,
        "qkv_bias": bias,
        "output_bias": bias,
    }
    if "rope" not in more:
        values["rope"] = read_rope(raw, head_dim)
    kv_heads = int(raw.get("num_key_value_heads") or heads)
    return AttentionConfig(heads=heads, kv_heads=kv_heads, head_dim=head_dim, **(values | more))


def read_mlp(raw: Raw, width: str = "intermediate_size", **more: Any) -> MlpConfig:
    """The feed-forward block, whose inner size is the field ``width``."""
    values: dict[str, Any] = {
        "activation": raw.get("hidden_act", "silu"),
        "bias": bool(raw.get("mlp_bias", False)),
    }
    return MlpConfig(int(raw[width]), **(values | more))


def require_silu(raw: Raw, field: str = "hidden_act") -> None:
    """State-space mixers are defined with SiLU; ``UserError`` for anything else."""
    if raw.get(field, "silu") not in ("silu", "swish"):
        raise UserError(f"config.json: {field} {raw[field]!r} is not supported; use 'silu'")


def read_time_step_limit(raw: Raw) -> tuple[float, float]:
    """Least and largest time step; infinity is written as a number or as transformers tags it."""
    limit: Any = raw.get("time_step_limit") or (0.0, math.inf)
    low, high = (float(x["__float__"] if isinstance(x, dict) else x) for x in limit)
    return low, high


def stack(mixers: Iterable[MixerConfig], mlp: MlpConfig | None) -> tuple[LayerConfig, ...]:
    """Layers with these mixers and the same MLP."""
    return tuple(LayerConfig(mixer, mlp) for mixer in mixers)
