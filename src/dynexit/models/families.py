"""How each model family writes its shape in ``config.json``, one entry a family.

A new family is a new reader here (and a row in ``weights.py`` if it names its tensors otherwise).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from dynexit.errors import UserError
from dynexit.models.config import (
    AttentionConfig,
    BackboneConfig,
    LayerConfig,
    Mamba2Config,
    MambaConfig,
    MixerConfig,
    MlpConfig,
    RopeConfig,
)
from dynexit.models.rope import check_rope

Raw = dict[str, Any]

_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}


def parse_config(raw: Raw) -> BackboneConfig:
    """The backbone's shape from the content of ``config.json``; ``UserError`` names the field."""
    family = raw.get("model_type")
    if not isinstance(family, str) or family not in _READERS:
        known = ", ".join(sorted(_READERS))
        raise UserError(
            f"config.json: model_type {family!r} is not supported; dynexit reads {known}"
        )
    try:
        return _READERS[family](raw)
    except KeyError as error:
        raise UserError(f"config.json: field {error.args[0]!r} is missing ({family})") from None
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise UserError(f"config.json: a field has an unusable value ({family}): {error}") from None


def _backbone(raw: Raw, layers: tuple[LayerConfig, ...], **more: Any) -> BackboneConfig:
    eps = raw.get("rms_norm_eps", raw.get("layer_norm_epsilon", 1e-5))
    dtype = raw.get("dtype") or raw.get("torch_dtype") or "float32"
    if dtype not in _DTYPES:
        raise UserError(f"config.json: dtype {dtype!r} is not supported; use {', '.join(_DTYPES)}")
    defaults: dict[str, Any] = {
        "tied": bool(raw.get("tie_word_embeddings", False)),
        "max_positions": raw.get("max_position_embeddings"),
    }
    return BackboneConfig(
        family=raw["model_type"],
        vocab=raw["vocab_size"],
        hidden=raw["hidden_size"],
        layers=layers,
        norm_eps=float(eps),
        dtype=_DTYPES[dtype],
        **(defaults | more),
    )


def _rope(raw: Raw, head_dim: int) -> RopeConfig:
    scaling = dict(raw.get("rope_parameters") or raw.get("rope_scaling") or {})
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    check_rope(kind)
    theta = float(scaling.get("rope_theta") or raw.get("rope_theta") or 10000.0)
    partial = scaling.get("partial_rotary_factor") or raw.get("partial_rotary_factor") or 1.0
    limit = int(raw.get("max_position_embeddings") or 2048)
    return RopeConfig(theta, int(head_dim * partial), limit, kind, scaling)


def _attention(raw: Raw, **more: Any) -> AttentionConfig:
    heads = raw["num_attention_heads"]
    head_dim = raw.get("head_dim") or raw["hidden_size"] // heads
    bias = bool(raw.get("attention_bias", False))
    values: dict[str, Any] = {
        "rope": _rope(raw, head_dim) if "rope" not in more else more["rope"],
        "scale": head_dim**-0.5,
        "qkv_bias": bias,
        "output_bias": bias,
    }
    return AttentionConfig(
        heads=heads,
        kv_heads=raw.get("num_key_value_heads") or heads,
        head_dim=head_dim,
        **(values | more),
    )


def _mlp(raw: Raw, width: str = "intermediate_size", **more: Any) -> MlpConfig:
    values: dict[str, Any] = {
        "activation": raw.get("hidden_act", "silu"),
        "bias": bool(raw.get("mlp_bias", False)),
    }
    return MlpConfig(raw[width], **(values | more))


def _stack(raw: Raw, mixers: list[MixerConfig], mlp: MlpConfig | None) -> tuple[LayerConfig, ...]:
    return tuple(LayerConfig(mixer, mlp) for mixer in mixers)


def _windows(raw: Raw) -> list[int | None]:
    """Sliding window of each layer, as Qwen's configurations say it."""
    depth = raw["num_hidden_layers"]
    window = raw.get("sliding_window")
    if not window or not raw.get("use_sliding_window", False):
        return [None] * depth
    kinds = raw.get("layer_types")
    if kinds is None:
        first = raw.get("max_window_layers", depth)
        return [window if i >= first else None for i in range(depth)]
    return [window if kind == "sliding_attention" else None for kind in kinds]


def _mistral(raw: Raw) -> BackboneConfig:
    mixer = _attention(raw, window=raw.get("sliding_window"), qkv_bias=False, output_bias=False)
    return _backbone(raw, _stack(raw, [mixer] * raw["num_hidden_layers"], _mlp(raw, bias=False)))


def _llama(raw: Raw) -> BackboneConfig:
    mixer = _attention(raw)
    return _backbone(raw, _stack(raw, [mixer] * raw["num_hidden_layers"], _mlp(raw)))


def _qwen2(raw: Raw) -> BackboneConfig:
    mixers: list[MixerConfig] = [
        _attention(raw, qkv_bias=True, output_bias=False, window=w) for w in _windows(raw)
    ]
    return _backbone(raw, _stack(raw, mixers, _mlp(raw, bias=False)))


def _qwen3(raw: Raw) -> BackboneConfig:
    mixers: list[MixerConfig] = [_attention(raw, qk_norm=True, window=w) for w in _windows(raw)]
    return _backbone(raw, _stack(raw, mixers, _mlp(raw, bias=False)))


def _mamba(raw: Raw) -> BackboneConfig:
    hidden = raw["hidden_size"]
    rank = raw.get("time_step_rank", "auto")
    mixer = MambaConfig(
        inner=int(raw.get("intermediate_size") or raw.get("expand", 2) * hidden),
        state=raw.get("state_size", 16),
        conv_kernel=raw.get("conv_kernel", 4),
        dt_rank=math.ceil(hidden / 16) if rank == "auto" else int(rank),
        bias=bool(raw.get("use_bias", False)),
        conv_bias=bool(raw.get("use_conv_bias", True)),
        bcdt_norm="weightless" if raw["model_type"] == "falcon_mamba" else None,
        bcdt_norm_eps=float(raw.get("mixer_rms_eps", 1e-6)),
    )
    return _backbone(
        raw,
        _stack(raw, [mixer] * raw["num_hidden_layers"], None),
        tied=bool(raw.get("tie_word_embeddings", True)),
        residual_in_fp32=bool(raw.get("residual_in_fp32", True)),
        max_positions=None,
    )


def _mamba2(raw: Raw) -> BackboneConfig:
    limit = raw.get("time_step_limit") or (0.0, math.inf)
    mixer = Mamba2Config(
        heads=raw["num_heads"],
        head_dim=raw["head_dim"],
        state=raw["state_size"],
        groups=raw["n_groups"],
        conv_kernel=raw.get("conv_kernel", 4),
        bias=bool(raw.get("use_bias", False)),
        conv_bias=bool(raw.get("use_conv_bias", True)),
        norm_eps=float(raw.get("layer_norm_epsilon", 1e-5)),
        dt_min=float(limit[0]),
        dt_max=float(limit[1]),
    )
    return _backbone(
        raw,
        _stack(raw, [mixer] * raw["num_hidden_layers"], None),
        residual_in_fp32=bool(raw.get("residual_in_fp32", True)),
        max_positions=None,
    )


def _hybrid_mamba2(raw: Raw) -> Mamba2Config:
    """The Mamba-2 mixer as Bamba and Granite-4 write it."""
    inner = raw.get("mamba_expand", 2) * raw["hidden_size"]
    head_dim = raw.get("mamba_d_head", "auto")
    limit = raw.get("time_step_limit") or (0.0, math.inf)
    return Mamba2Config(
        heads=raw["mamba_n_heads"],
        head_dim=inner // raw["mamba_n_heads"] if head_dim == "auto" else int(head_dim),
        state=raw["mamba_d_state"],
        groups=raw.get("mamba_n_groups", 1),
        conv_kernel=raw.get("mamba_d_conv", 4),
        bias=bool(raw.get("mamba_proj_bias", False)),
        conv_bias=bool(raw.get("mamba_conv_bias", True)),
        norm_eps=float(raw.get("rms_norm_eps", 1e-5)),
        dt_min=float(limit[0]),
        dt_max=float(limit[1]),
    )


def _bamba(raw: Raw) -> BackboneConfig:
    mamba, attention = _hybrid_mamba2(raw), _attention(raw)
    at = set(raw.get("attn_layer_indices") or ())
    mixers: list[MixerConfig] = [
        attention if i in at else mamba for i in range(raw["num_hidden_layers"])
    ]
    return _backbone(raw, _stack(raw, mixers, _mlp(raw)))


def _granite_hybrid(raw: Raw) -> BackboneConfig:
    if raw.get("num_local_experts"):
        raise UserError("config.json: num_local_experts > 0: mixtures of experts are not supported")
    rotary = raw.get("position_embedding_type") == "rope"
    more: dict[str, Any] = {} if rotary else {"rope": None}
    attention = _attention(raw, scale=float(raw.get("attention_multiplier", 1.0)), **more)
    mamba = _hybrid_mamba2(raw)
    kinds = raw.get("layer_types") or raw["layers_block_type"]
    mixers: list[MixerConfig] = [attention if "attention" == k or k == "full_attention" else mamba
                                 for k in kinds]
    return _backbone(
        raw,
        _stack(raw, mixers, _mlp(raw, "shared_intermediate_size", bias=False)),
        embedding_multiplier=float(raw.get("embedding_multiplier", 1.0)),
        residual_multiplier=float(raw.get("residual_multiplier", 1.0)),
        logits_divisor=float(raw.get("logits_scaling", 1.0)),
    )


_NEMOTRON_LETTERS = {"M": "linear_attention", "*": "full_attention", "-": "mlp", "E": "moe"}


def _nemotron_h(raw: Raw) -> BackboneConfig:
    kinds = raw.get("layers_block_type") or raw.get("layer_types")
    if kinds is None:
        kinds = [_NEMOTRON_LETTERS[letter] for letter in raw["hybrid_override_pattern"]]
    mamba = Mamba2Config(
        heads=raw["mamba_num_heads"],
        head_dim=raw["mamba_head_dim"],
        state=raw["ssm_state_size"],
        groups=raw["n_groups"],
        conv_kernel=raw.get("conv_kernel", 4),
        bias=bool(raw.get("use_bias", False)),
        conv_bias=bool(raw.get("use_conv_bias", True)),
        norm_eps=float(raw.get("layer_norm_epsilon", 1e-5)),
        dt_min=float(raw.get("time_step_min", 0.0)),
    )
    attention = _attention(raw, rope=None, qkv_bias=False, output_bias=False)
    mlp = _mlp(raw, gated=False, activation=raw.get("mlp_hidden_act", "relu2"))
    table = {
        "linear_attention": LayerConfig(mamba),
        "mamba": LayerConfig(mamba),
        "full_attention": LayerConfig(attention),
        "attention": LayerConfig(attention),
        "mlp": LayerConfig(None, mlp),
    }
    if unknown := sorted(set(kinds) - set(table)):
        raise UserError(f"config.json: layers of kind {unknown[0]!r} are not supported (nemotron_h)")
    return _backbone(raw, tuple(table[kind] for kind in kinds))


_READERS: dict[str, Callable[[Raw], BackboneConfig]] = {
    "mistral": _mistral,
    "llama": _llama,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "mamba": _mamba,
    "falcon_mamba": _mamba,
    "mamba2": _mamba2,
    "bamba": _bamba,
    "granitemoehybrid": _granite_hybrid,
    "nemotron_h": _nemotron_h,
}
