"""Norms and activations of a few hidden states in one pass; see ``norm.c`` and ``activation.c``."""

from __future__ import annotations

import torch
from torch import Tensor

from dynexit.models.kernels.build import loaded

ACTIVATIONS = {"silu": 0, "relu": 1, "relu2": 2}
"""What ``activate`` knows, by the names of configurations."""


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """``weight * x / rms(x)`` over the last dimension, in the type of ``weight`` (bf16 or fp32),
    to which ``x`` is rounded first where it is wider."""
    x, size = x.contiguous(), x.shape[-1]
    y = torch.empty_like(x, dtype=weight.dtype)
    bf16 = torch.bfloat16
    loaded().rms_norm(
        x.data_ptr(),
        size,
        weight.data_ptr(),
        y.data_ptr(),
        x.numel() // size,
        size,
        eps,
        x.dtype == bf16,
        weight.dtype == bf16,
    )
    return y


def group_norm(y: Tensor, weight: Tensor, groups: int, eps: float) -> Tensor:
    """RMS norm by group of ``y`` [..., inner] in fp32, in the type of ``weight`` [inner]."""
    out, inner = torch.empty_like(y, dtype=weight.dtype), y.shape[-1]
    addresses = (y.data_ptr(), weight.data_ptr(), out.data_ptr())
    sizes = (y.numel() // inner, inner, groups)
    loaded().group_norm(*addresses, *sizes, eps, weight.dtype == torch.bfloat16)
    return out


def activate(gate: Tensor, up: Tensor | None, name: str) -> Tensor:
    """``act(gate) * up``, or ``act(gate)``, both [..., wide], with an activation of
    ``ACTIVATIONS``; rounded after each step, as PyTorch's operations are."""
    gate, up = gate.contiguous(), None if up is None else up.contiguous()
    out, size = torch.empty_like(gate), gate.shape[-1]
    other = None if up is None else up.data_ptr()
    sizes = (gate.numel() // size, size)
    kind, is_bf16 = ACTIVATIONS[name], gate.dtype == torch.bfloat16
    loaded().activate(gate.data_ptr(), other, out.data_ptr(), *sizes, kind, is_bf16)
    return out
