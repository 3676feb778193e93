"""Root-mean-square norm of a few hidden states in one pass; see ``norm.c``."""

from __future__ import annotations

import torch
from torch import Tensor

from dynexit.models.kernels.build import loaded


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """``weight * x / rms(x)`` over the last dimension, in the type of ``weight`` (bf16 or fp32),
    to which ``x`` is rounded first where it is wider."""
    x, size = x.contiguous(), x.shape[-1]
    y = torch.empty_like(x, dtype=weight.dtype)
    bf16 = torch.bfloat16
    loaded().rms_norm(
        x.data_ptr(),
        weight.data_ptr(),
        y.data_ptr(),
        x.numel() // size,
        size,
        eps,
        x.dtype == bf16,
        weight.dtype == bf16,
    )
    return y
