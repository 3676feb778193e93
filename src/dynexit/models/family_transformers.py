"""Shapes of the transformer families: Mistral, Llama, Qwen2 and Qwen3."""

from __future__ import annotations

from dynexit.models.config import BackboneConfig, MixerConfig
from dynexit.models.family_fields import Raw, read_attention, read_backbone, read_mlp, stack


def mistral(raw: Raw) -> BackboneConfig:
    """Mistral: one sliding window for all layers, or none."""
    mixer = read_attention(raw, window=raw.get("sliding_window"), qkv_bias=False, output_bias=False)
    return read_backbone(raw, stack([mixer] * raw["num_hidden_layers"], read_mlp(raw, bias=False)))


def llama(raw: Raw) -> BackboneConfig:
    """Llama, with its rotary scaling and optional biases."""
    mixer = read_attention(raw)
    return read_backbone(raw, stack([mixer] * raw["num_hidden_layers"], read_mlp(raw)))


def qwen2(raw: Raw) -> BackboneConfig:
    """Qwen2: biases on queries, keys and values; sliding windows in some layers."""
    mixers: list[MixerConfig] = [
        read_attention(raw, qkv_bias=True, output_bias=False, window=w) for w in _windows(raw)
    ]
    return read_backbone(raw, stack(mixers, read_mlp(raw, bias=False)))


def qwen3(raw: Raw) -> BackboneConfig:
    """Qwen3: queries and keys normalised per head."""
    mixers = [read_attention(raw, qk_norm=True, window=w) for w in _windows(raw)]
    return read_backbone(raw, stack(mixers, read_mlp(raw, bias=False)))


def _windows(raw: Raw) -> list[int | None]:
    """Sliding window of each layer, as Qwen's configurations say it."""
    depth = raw["num_hidden_layers"]
    window = raw.get("sliding_window")
    if not window or not raw.get("use_sliding_window", False):
        return [None] * depth
    kinds = raw.get("layer_types")
    if kinds is None:
        first = raw.get("max_window_layers")
        return [window if first is not None and i >= first else None for i in range(depth)]
    return [window if kind == "sliding_attention" else None for kind in kinds]
