"""Bringing hidden states to root mean square 1, in few operations.

``F.rms_norm`` is half a dozen kernels on a CPU, and a judge is called at every exit of every token,
where a kernel costs more to start than to run.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

EPS = 1e-12
"""What norms of judges add to the mean square: only so that zeros stay zeros."""


def inverse_rms(x: Tensor) -> Tensor:
    """``1 / rms(x)`` over the last dimension, which is kept with size 1."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return torch.reciprocal(norm + EPS) * math.sqrt(x.shape[-1])


def for_unit(weight: Tensor) -> Tensor:
    """A matrix [out, in] prepared once, so that ``unit_product`` has less to do for each token."""
    return weight * math.sqrt(weight.shape[-1])


def unit_product(bias: Tensor, projected: Tensor, x: Tensor) -> Tensor:
    """``bias + W (x / rms(x))``, given ``for_unit(W) x`` as ``projected`` [B, out]: the norm is one
    number, so it divides what comes out."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return torch.addcdiv(bias, projected, norm.add_(EPS))
