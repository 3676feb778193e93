"""Rounding a matrix to few bits, with the range clipped where that brings it nearer.

Rounding to nearest between the least and the largest weight lets one outlier coarsen its whole
group. So a few narrower ranges are tried for each group, and the one of least squared error is
taken. For 4 bits every try is followed by the least-squares line through the weights and their
numbers, which gives the best scale and zero that those numbers can have.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from dynexit.models.packing import pack
from dynexit.models.quantization import QuantizationConfig

_BLOCK = 1 << 18  # weights rounded at a time, few enough for a cache
_CLIPS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.72, 0.64)  # shares of the whole range that are tried
_CLIPS_INT8 = (1.0, 0.98, 0.95, 0.9, 0.8)
_LARGEST, _LEVELS = 127, 15


@dataclass(frozen=True)
class Rounded:
    """``parts`` are what is stored: ``qweight``, ``scales`` and for 4 bits ``zeros``.

    ``error`` is the Frobenius norm of the difference over that of the matrix.
    """

    parts: dict[str, Tensor]
    error: float


def round_matrix(weight: Tensor, config: QuantizationConfig) -> Rounded:
    """Round ``weight`` [out, in], some rows at a time; ``ValueError`` where it is not finite or
    has no groups."""
    columns = weight.shape[1]
    group = config.group_of(columns)
    if group is None:
        raise ValueError(f"no group of {config.group} columns or less divides {columns}")
    off, whole, blocks = 0.0, 0.0, []
    for block in _blocks(weight, max(1, _BLOCK // columns)):
        parts, restored = round_int8(block) if config.bits == 8 else round_int4(block, group)
        whole += float(block.square().sum(dtype=torch.float64))
        off += float((block - restored).square_().sum(dtype=torch.float64))
        blocks.append(parts)
    joined = {name: torch.cat([block[name] for block in blocks]) for name in blocks[0]}
    return Rounded(joined, (off / whole) ** 0.5 if whole else 0.0)


def _blocks(weight: Tensor, step: int) -> Iterator[Tensor]:
    for begin in range(0, len(weight), step):
        wide = weight[begin : begin + step].to(torch.float32)
        if not wide.isfinite().all():
            raise ValueError("it holds numbers that are not finite")
        yield wide


def round_int8(weight: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Symmetric per row of ``weight`` [out, in] fp32; gives what is stored and what it stands
    for."""
    largest = weight.abs().amax(1, keepdim=True)
    best = error = torch.full_like(largest, torch.inf)
    for clip in _CLIPS_INT8:
        scale = _positive(largest * (clip / _LARGEST))
        off = (_symmetric(weight, scale) * scale - weight).square_().sum(1, keepdim=True)
        best, error = torch.where(off < error, scale, best), torch.minimum(off, error)
    numbers = _symmetric(weight, best)
    return {"qweight": numbers.to(torch.int8), "scales": best[:, 0].clone()}, numbers * best


def round_int4(weight: Tensor, group: int) -> tuple[dict[str, Tensor], Tensor]:
    """Scale and zero per ``group`` columns of ``weight`` [out, in] fp32, both in bf16; gives what
    is stored and what it stands for."""
    grouped = weight.view(len(weight), -1, group)
    low, high = grouped.amin(-1, keepdim=True), grouped.amax(-1, keepdim=True)
    scale = zero = torch.zeros_like(low)
    error = torch.full_like(low, torch.inf)
    for clip in _CLIPS:
        middle, half = (low + high) / 2, (high - low) * (clip / 2)
        numbers = _asymmetric(grouped, _positive(half * (2 / _LEVELS)), middle - half)
        step, base = _line(numbers, grouped)
        numbers = _asymmetric(grouped, step, base)
        off = torch.addcmul(base, numbers, step).sub_(grouped).square_().sum(-1, keepdim=True)
        better = off < error
        scale, zero = torch.where(better, step, scale), torch.where(better, base, zero)
        error = torch.minimum(off, error)
    numbers = _asymmetric(grouped, scale, zero)
    packed = pack(numbers.to(torch.uint8).view_as(weight))
    stored = (t[..., 0].to(torch.bfloat16) for t in (scale, zero))
    restored = torch.addcmul(zero, numbers, scale).view_as(weight)
    return dict(zip(("qweight", "scales", "zeros"), (packed, *stored), strict=True)), restored


def _symmetric(weight: Tensor, scale: Tensor) -> Tensor:
    return (weight / scale).round_().clamp_(-_LARGEST, _LARGEST)


def _asymmetric(grouped: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    return ((grouped - zero) / scale).round_().clamp_(0, _LEVELS)


def _line(numbers: Tensor, grouped: Tensor) -> tuple[Tensor, Tensor]:
    """Least-squares scale and zero of groups [out, groups, group], as bf16 can hold them."""
    middle, mean = numbers.mean(-1, keepdim=True), grouped.mean(-1, keepdim=True)
    spread = numbers - middle
    slope = (spread * grouped).sum(-1, keepdim=True) / spread.square().sum(-1, keepdim=True)
    scale = _positive(torch.nan_to_num(slope)).to(torch.bfloat16).to(torch.float32)
    zero = (mean - scale * middle).to(torch.bfloat16).to(torch.float32)
    return scale, zero


def _positive(scale: Tensor) -> Tensor:
    """Weights that are all equal have no range, and any scale will do."""
    return scale.clamp(min=torch.finfo(torch.float32).tiny)
