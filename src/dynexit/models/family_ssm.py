"""Shapes of the state-space families: Mamba, Falcon-Mamba and Mamba-2 (Codestral Mamba)."""

from __future__ import annotations

import math

from dynexit.models.config import BackboneConfig, Mamba2Config, MambaConfig
from dynexit.models.family_fields import (
    Raw,
    read_backbone,
    read_time_step_limit,
    require_silu,
    stack,
)


def mamba(raw: Raw) -> BackboneConfig:
    """Mamba and Falcon-Mamba, which normalises B, C and the time step."""
    require_silu(raw)
    hidden = raw["hidden_size"]
    rank = raw.get("time_step_rank", "auto")
    mixer = MambaConfig(
        inner=int(raw.get("intermediate_size") or raw.get("expand", 2) * hidden),
        state=int(raw.get("state_size", 16)),
        conv_kernel=int(raw.get("conv_kernel", 4)),
        dt_rank=math.ceil(hidden / 16) if rank == "auto" else int(rank),
        bias=bool(raw.get("use_bias", False)),
        conv_bias=bool(raw.get("use_conv_bias", True)),
        bcdt_norm="weightless" if raw["model_type"] == "falcon_mamba" else None,
        bcdt_norm_eps=float(raw.get("mixer_rms_eps", 1e-6)),
    )
    return read_backbone(
        raw,
        stack([mixer] * raw["num_hidden_layers"], None),
        tied=bool(raw.get("tie_word_embeddings", True)),
        residual_in_fp32=bool(raw.get("residual_in_fp32", True)),
        max_positions=None,
    )


def mamba2(raw: Raw) -> BackboneConfig:
    """Mamba-2."""
    require_silu(raw)
    low, high = read_time_step_limit(raw)
    mixer = Mamba2Config(
        heads=int(raw["num_heads"]),
        head_dim=int(raw["head_dim"]),
        state=int(raw["state_size"]),
        groups=int(raw["n_groups"]),
        conv_kernel=int(raw.get("conv_kernel", 4)),
        bias=bool(raw.get("use_bias", False)),
        conv_bias=bool(raw.get("use_conv_bias", True)),
        norm_eps=float(raw.get("layer_norm_epsilon", 1e-5)),
        dt_min=low,
        dt_max=high,
    )
    return read_backbone(
        raw,
        stack([mixer] * raw["num_hidden_layers"], None),
        residual_in_fp32=bool(raw.get("residual_in_fp32", True)),
        max_positions=None,
    )
