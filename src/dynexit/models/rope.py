"""Rotary position embeddings and their scaling variants.

Formulas as published: RoFormer (Su et al. 2021), position interpolation ("linear", Chen et al.
2023), NTK-aware ("dynamic"), YaRN (Peng et al. 2023) and Llama 3.1 ("llama3"). Names and defaults
are those of ``rope_parameters`` in Hugging Face configurations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeGuard

import torch
from torch import Tensor

from dynexit.errors import UserError
from dynexit.models.config import RopeConfig


def _base_frequencies(theta: float, dim: int) -> Tensor:
    return 1.0 / (theta ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim))


def _default(rope: RopeConfig, length: int) -> tuple[Tensor, float]:
    return _base_frequencies(rope.theta, rope.dim), 1.0


def _linear(rope: RopeConfig, length: int) -> tuple[Tensor, float]:
    return _base_frequencies(rope.theta, rope.dim) / float(rope.scaling["factor"]), 1.0


def _dynamic(rope: RopeConfig, length: int) -> tuple[Tensor, float]:
    longest = max(length, rope.max_positions)
    factor = float(rope.scaling["factor"])
    growth = factor * longest / rope.max_positions - (factor - 1)
    return _base_frequencies(rope.theta * growth ** (rope.dim / (rope.dim - 2)), rope.dim), 1.0


def _llama3(rope: RopeConfig, length: int) -> tuple[Tensor, float]:
    p = rope.scaling
    frequencies = _base_frequencies(rope.theta, rope.dim)
    wavelength = 2 * math.pi / frequencies
    original, factor = p["original_max_position_embeddings"], p["factor"]
    low, high = p["low_freq_factor"], p["high_freq_factor"]
    smooth = ((original / wavelength - low) / (high - low)).clamp(0.0, 1.0)
    return (1 - smooth) * frequencies / factor + smooth * frequencies, 1.0


def _yarn(rope: RopeConfig, length: int) -> tuple[Tensor, float]:
    p = rope.scaling
    original = p.get("original_max_position_embeddings") or rope.max_positions
    factor = p.get("factor") or rope.max_positions / original
    fast, slow = p.get("beta_fast") or 32.0, p.get("beta_slow") or 1.0

    def dimension(rotations: float) -> float:
        turns = original / (rotations * 2 * math.pi)
        return rope.dim * math.log(turns) / (2 * math.log(rope.theta))

    low, high = dimension(fast), dimension(slow)
    if p.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rope.dim - 1)
    span = max(high - low, 0.001)
    ramp = ((torch.arange(rope.dim // 2, dtype=torch.float32) - low) / span).clamp(0.0, 1.0)
    frequencies = _base_frequencies(rope.theta, rope.dim)
    scaled = frequencies / factor * ramp + frequencies * (1 - ramp)
    return scaled, _yarn_attention_factor(rope, factor)


def _yarn_attention_factor(rope: RopeConfig, factor: float) -> float:
    def magnitude(weight: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    p = rope.scaling
    if p.get("attention_factor") is not None:
        return float(p["attention_factor"])
    if p.get("mscale") and p.get("mscale_all_dim"):
        return magnitude(p["mscale"]) / magnitude(p["mscale_all_dim"])
    return magnitude(1.0)


_KINDS: dict[str, Callable[[RopeConfig, int], tuple[Tensor, float]]] = {
    "default": _default,
    "linear": _linear,
    "dynamic": _dynamic,
    "llama3": _llama3,
    "yarn": _yarn,
}


_REQUIRED = {
    "linear": ("factor",),
    "dynamic": ("factor",),
    "llama3": (
        "factor",
        "low_freq_factor",
        "high_freq_factor",
        "original_max_position_embeddings",
    ),
}


def check_rope(kind: str, scaling: Mapping[str, object]) -> None:
    """Raise ``UserError`` when the scaling variant is none of those above or lacks a field."""
    if kind not in _KINDS:
        known = ", ".join(sorted(_KINDS))
        raise UserError(f"config.json: rope_type {kind!r} is not supported; known are {known}")
    for field in _REQUIRED.get(kind, ()):
        if not _is_number(scaling.get(field)):
            raise UserError(
                f"config.json: rope_type {kind!r} needs the number {field!r}; fetch the file again"
            )


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


_NUMBERS = (
    *("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    *("beta_fast", "beta_slow", "attention_factor", "mscale", "mscale_all_dim"),
)
_LEAST, _MOST = 1e-6, 1e12  # so that no formula above leaves the numbers of fp32


def check_rope_numbers(rope: RopeConfig) -> None:
    """Raise ``UserError`` where a formula above would divide by zero or leave the real numbers."""
    given = {name: rope.scaling.get(name) for name in _NUMBERS}
    for name, value in {"rope_theta": rope.theta, **given}.items():
        sound = _is_number(value) and _LEAST <= value <= _MOST
        if value is not None and not sound:
            raise UserError(f"config.json: {name} {value!r} is no positive number; mend the file")
    if rope.kind == "llama3" and not given["low_freq_factor"] < given["high_freq_factor"]:  # type: ignore[operator]
        raise UserError("config.json: low_freq_factor must be below high_freq_factor")
    if rope.kind == "dynamic" and rope.dim <= 2:
        raise UserError("config.json: rope_type 'dynamic' needs more than 2 rotated channels")
    if rope.kind == "yarn" and rope.theta == 1:
        raise UserError("config.json: rope_type 'yarn' needs a rope_theta other than 1")


def rope_tables(rope: RopeConfig, length: int) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines for positions 0..length-1, each [length, dim], fp32.

    The first half of the sines is negative, as ``rotate`` wants them.
    """
    frequencies, attention_factor = _KINDS[rope.kind](rope, length)
    angles = torch.outer(torch.arange(length, dtype=torch.float32), frequencies)
    cos, sin = angles.cos() * attention_factor, angles.sin() * attention_factor
    return torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the first ``cos.shape[-1]`` channels of ``x`` [..., T, head_dim].

    Channel i and channel i + dim/2 are a pair: rolling by half the channels brings each to its
    partner, and the sign is in the sines.
    """
    dim = cos.shape[-1]
    if dim < x.shape[-1]:
        return torch.cat((rotate(x[..., :dim], cos, sin), x[..., dim:]), dim=-1)
    return torch.addcmul(x * cos, x.roll(dim // 2, -1), sin)


class RopeTable:
    """Rotary tables of one configuration, grown as longer texts come.

    Dynamic scaling changes every angle once a text is longer than the trained context, so its
    tables are made anew for each such length.
    """

    def __init__(self, rope: RopeConfig) -> None:
        self.rope = rope
        self._length = 0
        self._tables: tuple[Tensor, Tensor] = (torch.empty(0), torch.empty(0))

    def upto(self, length: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
        """Cosines and signed sines for positions 0..length-1 at least, each [>= length, dim]."""
        cos, _ = self._tables
        if not self._fits(length) or cos.dtype != dtype or cos.device != device:
            self._length = self._roomy(length)
            cos, sin = rope_tables(self.rope, self._length)
            self._tables = (cos.to(device, dtype), sin.to(device, dtype))
        return self._tables

    def _fits(self, length: int) -> bool:
        limit = self.rope.max_positions
        if self.rope.kind == "dynamic" and max(length, self._length) > limit:
            return length == self._length
        return length <= self._length

    def _roomy(self, length: int) -> int:
        limit = self.rope.max_positions
        if self.rope.kind == "dynamic":
            return max(length, limit)
        return max(256, 1 << (length - 1).bit_length())
