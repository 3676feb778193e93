"""Shapes of the hybrid families: Bamba, Granite-4 (dense), Nemotron-H and Jamba (dense)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from dynexit.errors import UserError
from dynexit.models.config import (
    AttentionConfig,
    BackboneConfig,
    LayerConfig,
    Mamba2Config,
    MambaConfig,
    MixerConfig,
)
from dynexit.models.family_fields import (
    Raw,
    read_attention,
    read_backbone,
    read_mlp,
    read_rope,
    read_time_step_limit,
    require_silu,
    stack,
)

# Names of a layer's kind, by what it is here; older and newer configurations differ.
_ATTENTION = {"attention", "full_attention", "*"}
_MAMBA = {"mamba", "linear_attention", "M"}
_MLP = {"mlp", "-"}


def bamba(raw: Raw) -> BackboneConfig:
    """Bamba: Mamba-2 layers, some of attention; half of every head is rotated."""
    head_dim = raw.get("head_dim") or raw["hidden_size"] // raw["num_attention_heads"]
    attention = read_attention(raw, rope=read_rope(raw, head_dim, partial=0.5))
    at = set(raw.get("attn_layer_indices") or ())
    kinds = ["attention" if i in at else "mamba" for i in range(raw["num_hidden_layers"])]
    mixers = _mixers(kinds, attention, _mamba2(raw))
    return read_backbone(raw, stack(mixers, read_mlp(raw)))


def granite_hybrid(raw: Raw) -> BackboneConfig:
    """Granite-4 without experts: multipliers on embedding, residuals, scores and logits."""
    _refuse_experts(raw, "num_local_experts", at_most=0)
    rotary = raw.get("position_embedding_type") == "rope"
    more: dict[str, Any] = {} if rotary else {"rope": None}
    attention = read_attention(raw, scale=float(raw.get("attention_multiplier", 1.0)), **more)
    kinds = raw.get("layer_types") or raw["layers_block_type"]
    mixers = _mixers(kinds, attention, _mamba2(raw))
    return read_backbone(
        raw,
        stack(mixers, read_mlp(raw, "shared_intermediate_size", bias=False)),
        embedding_multiplier=float(raw.get("embedding_multiplier", 1.0)),
        residual_multiplier=float(raw.get("residual_multiplier", 1.0)),
        logits_divisor=float(raw.get("logits_scaling", 1.0)),
    )


def nemotron_h(raw: Raw) -> BackboneConfig:
    """Nemotron-H without experts: a layer is a mixer or an MLP, never both."""
    kinds = raw.get("layers_block_type") or raw.get("layer_types")
    kinds = list(kinds or raw["hybrid_override_pattern"])
    mlp = read_mlp(raw, gated=False, activation=raw.get("mlp_hidden_act", "relu2"))
    attention = read_attention(raw, rope=None, qkv_bias=False, output_bias=False)
    mixers = iter(_mixers([k for k in kinds if k not in _MLP], attention, _nemotron_mamba2(raw)))
    layers = tuple(
        LayerConfig(None, mlp) if kind in _MLP else LayerConfig(next(mixers)) for kind in kinds
    )
    return read_backbone(raw, layers)


def jamba(raw: Raw) -> BackboneConfig:
    """Jamba without experts: Mamba with learned norms of B, C and the time step; no positions."""
    _refuse_experts(raw, "num_experts", at_most=1)
    require_silu(raw)
    rank = raw.get("mamba_dt_rank", "auto")
    mamba = MambaConfig(
        inner=int(raw.get("mamba_expand", 2) * raw["hidden_size"]),
        state=int(raw.get("mamba_d_state", 16)),
        conv_kernel=int(raw.get("mamba_d_conv", 4)),
        dt_rank=math.ceil(raw["hidden_size"] / 16) if rank == "auto" else int(rank),
        bias=bool(raw.get("mamba_proj_bias", False)),
        conv_bias=bool(raw.get("mamba_conv_bias", True)),
        bcdt_norm="learned",
        bcdt_norm_eps=float(raw.get("rms_norm_eps", 1e-6)),
    )
    attention = read_attention(raw, rope=None, qkv_bias=False, output_bias=False)
    period, offset = raw.get("attn_layer_period", 8), raw.get("attn_layer_offset", 4)
    kinds = [
        "attention" if i % period == offset else "mamba" for i in range(raw["num_hidden_layers"])
    ]
    return read_backbone(raw, stack(_mixers(kinds, attention, mamba), read_mlp(raw, bias=False)))


def _mixers(
    kinds: Sequence[str], attention: AttentionConfig, mamba: MambaConfig | Mamba2Config
) -> list[MixerConfig]:
    if unknown := sorted(set(kinds) - _ATTENTION - _MAMBA):
        raise UserError(f"config.json: layers of kind {unknown[0]!r} are not supported")
    return [attention if kind in _ATTENTION else mamba for kind in kinds]


def _mamba2(raw: Raw) -> Mamba2Config:
    """The Mamba-2 mixer as Bamba and Granite-4 write it."""
    require_silu(raw)
    inner = raw.get("mamba_expand", 2) * raw["hidden_size"]
    head_dim = raw.get("mamba_d_head", "auto")
    low, high = read_time_step_limit(raw)
    return Mamba2Config(
        heads=int(raw["mamba_n_heads"]),
        head_dim=inner // raw["mamba_n_heads"] if head_dim == "auto" else int(head_dim),
        state=int(raw["mamba_d_state"]),
        groups=int(raw.get("mamba_n_groups", 1)),
        conv_kernel=int(raw.get("mamba_d_conv", 4)),
        bias=bool(raw.get("mamba_proj_bias", False)),
        conv_bias=bool(raw.get("mamba_conv_bias", True)),
        norm_eps=float(raw.get("rms_norm_eps", 1e-5)),
        dt_min=low,
        dt_max=high,
    )


def _nemotron_mamba2(raw: Raw) -> Mamba2Config:
    require_silu(raw, "mamba_hidden_act")
    return Mamba2Config(
        heads=int(raw["mamba_num_heads"]),
        head_dim=int(raw["mamba_head_dim"]),
        state=int(raw["ssm_state_size"]),
        groups=int(raw["n_groups"]),
        conv_kernel=int(raw.get("conv_kernel", 4)),
        bias=bool(raw.get("use_bias", False)),
        conv_bias=bool(raw.get("use_conv_bias", True)),
        norm_eps=float(raw.get("layer_norm_epsilon", 1e-5)),
        dt_min=float(raw.get("time_step_min", 0.0)),  # transformers clamps to it, without a maximum
    )


def _refuse_experts(raw: Raw, field: str, at_most: int) -> None:
    if (raw.get(field) or 0) > at_most:
        raise UserError(f"config.json: {field} > {at_most}: mixtures of experts are not supported")
