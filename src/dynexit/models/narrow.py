"""Products with matrices in bf16 or fp16 on a CPU that has no instructions for them.

PyTorch multiplies them there an order of magnitude slower than in fp32. A few tokens at a time go
to our own kernels, which are bound by memory; for many tokens a block of the matrix at a time is
made fp32, which costs little beside the product and no memory to speak of. Sums are in fp32 either
way, and so is what PyTorch does, so that results differ by rounding alone.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from dynexit.models import kernels
from dynexit.models.kernels import MOST_TOKENS, Matrix

_FEW = 8 * MOST_TOKENS  # tokens from which a product in fp32 beats reading the matrix again
_BLOCK = 1 << 20  # weights made fp32 at once: 4 MB, about what a cache keeps


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x`` [..., in] times ``weight`` [out, in], plus ``bias`` [out], as fast as this device can.

    Where gradients are kept it is PyTorch's product, which keeps no other copy of the weights.
    """
    if not _slow(x) or x.dtype != weight.dtype or torch.is_grad_enabled():
        return F.linear(x, weight, bias)
    flat = x.reshape(-1, x.shape[-1])
    if 0 < len(flat) <= _FEW and kernels.available(flat, weight):
        matrix = Matrix(weight, bias)
        parts = torch.split(flat, MOST_TOKENS)
        y = torch.cat([kernels.multiply(part, matrix)[0] for part in parts])
    else:
        y = _widened(flat, weight, bias)
    return y.view(*x.shape[:-1], len(weight))


def _widened(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``x`` [N, in] times ``weight`` in fp32, a block of its rows at a time."""
    step = max(1, _BLOCK // weight.shape[1])
    y, source = x.new_empty(len(x), len(weight)), x.float()
    for start in range(0, len(weight), step):
        rows = slice(start, start + step)
        added = None if bias is None else bias[rows].float()
        y[:, rows] = F.linear(source, weight[rows].float(), added)
    return y


def _slow(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype in _slow_types()


@functools.cache
def _slow_types() -> frozenset[torch.dtype]:
    """The types that oneDNN, which PyTorch multiplies them with, has no kernels for here."""
    if not torch._C._has_mkldnn:
        return frozenset((torch.bfloat16, torch.float16))
    fast = {
        torch.bfloat16: torch.ops.mkldnn._is_mkldnn_bf16_supported(),
        torch.float16: torch.ops.mkldnn._is_mkldnn_fp16_supported(),
    }
    return frozenset(dtype for dtype, supported in fast.items() if not supported)
