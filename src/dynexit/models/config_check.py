"""Whether the sizes that a ``config.json`` gives can be those of a model at all."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from dynexit.errors import UserError
from dynexit.models.config import AttentionConfig, BackboneConfig, LayerConfig, Mamba2Config
from dynexit.models.mlp import activation
from dynexit.models.rope import check_rope_numbers

DEEPEST = 10_000
LARGEST = 1 << 29  # of a matrix either way, so that its bytes can be counted in 64 bits
LONGEST = 1 << 62  # positions
_POSITIONS = ("max_positions", "window")
_FP32_MAX = 3.4e38


def check_depth(depth: object) -> None:
    """Raise ``UserError`` for a number of layers that none has; None stands for a family that
    lists its layers. Before a list of so many layers is made."""
    whole = isinstance(depth, int) and not isinstance(depth, bool)
    if depth is not None and not (whole and 1 <= depth <= DEEPEST):  # type: ignore[operator]
        raise UserError(
            f"config.json: num_hidden_layers {depth!r} is no number from 1 to {DEEPEST}; "
            "fetch the file again"
        )


def check_config(config: BackboneConfig) -> None:
    """Raise ``UserError`` for a backbone that could not be built or run."""
    if not config.layers:
        raise UserError("config.json: the model has no layers; fetch the file again")
    for part in _parts(config):
        for field in fields(part):
            _check_number(field.name, str(field.type), getattr(part, field.name))
    for layer in config.layers:
        _check_layer(layer)


def _check_number(name: str, kind: str, value: object) -> None:
    """A size must be one of a matrix, any other number one of fp32 (a limit may be infinite)."""
    if kind in ("int", "int | None") and value is not None:
        most = LONGEST if name in _POSITIONS else LARGEST
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole or not 1 <= value <= most:  # type: ignore[operator]
            raise UserError(
                f"config.json: the size {name!r} of the model would be {value!r}; "
                "fetch the file again"
            )
    elif kind == "float":
        assert isinstance(value, float)
        low = 0.0 if name.endswith("eps") else -_FP32_MAX
        high = math.inf if name == "dt_max" else _FP32_MAX
        if not low <= value <= high or (name == "logits_divisor" and not value):
            raise UserError(
                f"config.json: the number {name!r} of the model would be {value}; "
                "fetch the file again"
            )


def _check_layer(layer: LayerConfig) -> None:
    mixer = layer.mixer
    if layer.mlp is not None:
        activation(layer.mlp.activation)
    if isinstance(mixer, AttentionConfig):
        _divides("num_key_value_heads", mixer.kv_heads, "num_attention_heads", mixer.heads)
        _check_number("width of all heads", "int", mixer.heads * mixer.head_dim)
        if mixer.rope is not None:
            _divides("2", 2, "the rotated part of head_dim", mixer.rope.dim)
            if mixer.rope.dim > mixer.head_dim:
                raise UserError("config.json: partial_rotary_factor is above 1; mend the file")
            check_rope_numbers(mixer.rope)
    if isinstance(mixer, Mamba2Config):
        _divides("n_groups", mixer.groups, "the number of heads", mixer.heads)
        _check_number("width of all heads", "int", mixer.inner)
        _check_number("width of the convolution", "int", mixer.conv_dim)


def _parts(config: BackboneConfig) -> Iterator[Any]:
    yield config
    for layer in config.layers:
        rope = layer.mixer.rope if isinstance(layer.mixer, AttentionConfig) else None
        yield from (part for part in (layer.mixer, layer.mlp, rope) if part is not None)


def _divides(name: str, divisor: int, whole: str, value: int) -> None:
    if value % divisor:
        shown = name if name == str(divisor) else f"{name} {divisor}"
        raise UserError(f"config.json: {whole} {value} is no multiple of {shown}")
