"""Root-mean-square norms (Zhang and Sennrich 2019), plain and gated by group (Mamba-2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def rms(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """Normalise the last dimension in fp32 and give it back in the dtype of ``weight``."""
    if x.dtype == torch.float32 and (weight is None or weight.dtype == torch.float32):
        return F.rms_norm(x, x.shape[-1:], weight, eps)
    normed = F.rms_norm(x.float(), x.shape[-1:], None, eps)
    return normed.to(x.dtype) if weight is None else weight * normed.to(weight.dtype)


class RmsNorm(nn.Module):
    """``x / rms(x) * weight`` over the last dimension."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return rms(x, self.weight, self.eps)


class GatedRmsNorm(nn.Module):
    """RMS norm over groups of ``x * silu(gate)``, as between Mamba-2's scan and projection."""

    def __init__(self, size: int, groups: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.groups = groups
        self.eps = eps

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        y = x.float() * F.silu(gate.float())
        grouped = y.unflatten(-1, (self.groups, -1))
        normed = F.rms_norm(grouped, grouped.shape[-1:], None, self.eps).flatten(-2)
        return self.weight * normed.to(self.weight.dtype)
