"""Root-mean-square norms (Zhang and Sennrich 2019), plain and gated by group (Mamba-2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynexit.models import kernels


def rms(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """Normalise the last dimension in fp32 and give it back in the dtype of ``weight``."""
    wide = torch.promote_types(x.dtype, torch.float32)
    # few kernels, as a step of one token is bound by their number: the norm widens on the way, and
    # a tensor of eps spares two operations with Python numbers, which cost twice a tensor's
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide)
    mean = torch.addcmul(norm.new_full((1,), eps), norm, norm, value=1.0 / x.shape[-1])
    normed = x * torch.rsqrt(mean)
    return normed.to(x.dtype) if weight is None else weight * normed.to(weight.dtype)


class RmsNorm(nn.Module):
    """``x / rms(x) * weight`` over the last dimension.

    ``x`` may be wider than the weights (Mamba keeps its residual stream in fp32): it is rounded to
    their type first, as transformers does.
    """

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight
        if weight.dtype in (x.dtype, torch.bfloat16) and kernels.usable(x, weight):
            return kernels.rms_norm(x, weight, self.eps)
        return rms(x if x.dtype == weight.dtype else x.to(weight.dtype), weight, self.eps)


class GatedRmsNorm(nn.Module):
    """RMS norm over groups of ``x * silu(gate)``, as between Mamba-2's scan and projection."""

    def __init__(self, size: int, groups: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.groups = groups
        self.eps = eps

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        wide = torch.promote_types(gate.dtype, torch.float32)
        y = x.to(wide) * F.silu(gate.to(wide))
        if self.groups == 1:
            return rms(y, self.weight, self.eps)
        *outer, size = y.shape
        grouped = rms(y.view(*outer, self.groups, size // self.groups), None, self.eps)
        return self.weight * grouped.view(*outer, size).to(self.weight.dtype)
