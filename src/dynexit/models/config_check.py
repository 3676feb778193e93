"""Whether the sizes that a ``config.json`` gives can be those of a model at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from dynexit.errors import UserError
from dynexit.models.config import AttentionConfig, BackboneConfig, Mamba2Config
from dynexit.models.mlp import activation


def check_config(config: BackboneConfig) -> None:
    """Raise ``UserError`` for a backbone that could not be built or run."""
    if not config.layers:
        raise UserError("config.json: the model has no layers; fetch the file again")
    for part in _parts(config):
        for field in fields(part):
            value = getattr(part, field.name)
            if isinstance(value, int) and not isinstance(value, bool) and value < 1:
                raise UserError(
                    f"config.json: the size {field.name!r} of the model would be {value}; "
                    "fetch the file again"
                )
    for layer in config.layers:
        mixer = layer.mixer
        if layer.mlp is not None:
            activation(layer.mlp.activation)
        if isinstance(mixer, AttentionConfig):
            _divides("num_key_value_heads", mixer.kv_heads, "num_attention_heads", mixer.heads)
            if mixer.rope is not None:
                _divides("2", 2, "the rotated part of head_dim", mixer.rope.dim)
        if isinstance(mixer, Mamba2Config):
            _divides("n_groups", mixer.groups, "the number of heads", mixer.heads)


def _parts(config: BackboneConfig) -> Iterator[Any]:
    yield config
    for layer in config.layers:
        rope = layer.mixer.rope if isinstance(layer.mixer, AttentionConfig) else None
        yield from (part for part in (layer.mixer, layer.mlp, rope) if part is not None)


def _divides(name: str, divisor: int, whole: str, value: int) -> None:
    if value % divisor:
        shown = name if name == str(divisor) else f"{name} {divisor}"
        raise UserError(f"config.json: {whole} {value} is no multiple of {shown}")
