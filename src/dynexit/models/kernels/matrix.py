"""Products of a few hidden states with one matrix; see ``matrix.c``."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from dynexit.models.kernels.build import library, loaded

MOST_TOKENS = 8
"""Up to here the kernel is bound by memory, and PyTorch's matrix product gains nothing."""
_RUN = 128  # columns to which the kernels round up
_KINDS = (torch.float32, torch.bfloat16)  # of hidden states
_WEIGHTS = {torch.float32: 0, torch.bfloat16: 1, torch.int8: 2, torch.uint8: 3}
_POINTER, _LONG, _INT = ctypes.c_void_p, ctypes.c_long, ctypes.c_int


class _Product(ctypes.Structure):
    _fields_ = (
        ("weight", _POINTER),
        ("scales", _POINTER),
        ("zeros", _POINTER),
        ("bias", _POINTER),
        ("x", _POINTER),
        ("y", _POINTER),
        ("wide", _POINTER),
        ("totals", _POINTER),
        ("tokens", _LONG),
        ("rows", _LONG),
        ("cols", _LONG),
        ("group", _LONG),
        ("kind", _INT),
        ("is_bf16", _INT),
        ("scale_is_bf16", _INT),
        ("threads", _INT),
    )


def usable(x: Tensor, weight: Tensor) -> bool:
    """Whether a kernel can multiply ``x`` [..., in] with ``weight`` here and now."""
    return 0 < x.numel() <= MOST_TOKENS * x.shape[-1] and available(x, weight)


def available(x: Tensor, weight: Tensor) -> bool:
    """Whether the kernels can compute with these, be it many tokens or few."""
    return (
        x.dtype in _KINDS
        and not torch.is_grad_enabled()
        and weight.device.type == "cpu"
        and weight.is_contiguous()
        and not torch.compiler.is_compiling()
        and not is_in_torch_dispatch_mode()  # somebody counts PyTorch's operations
        and library() is not None
    )


@dataclass(frozen=True)
class Matrix:
    """``weight`` [out, in] in the type of the hidden states; or int8 [out, in] with one fp32 scale
    a row; or uint8 [out, 64 * runs] as ``packing`` has it with ``scales`` and ``zeros``
    [out, groups] in fp32 or bf16. ``bias`` [out] is in the type of the hidden states."""

    weight: Tensor
    bias: Tensor | None = None
    scales: Tensor | None = None
    zeros: Tensor | None = None


def multiply(x: Tensor, *matrices: Matrix) -> list[Tensor]:
    """``x`` [..., in] times each of the matrices, plus its bias: [..., out] each."""
    x = x.contiguous()
    results = [x.new_empty((*x.shape[:-1], m.weight.shape[0])) for m in matrices]
    tokens, stride = x.numel() // x.shape[-1], -(-x.shape[-1] // _RUN) * _RUN
    # for each matrix x in fp32 and the sums of its groups, of which there are fewer than columns
    room = tokens * 2 * stride
    scratch = torch.empty(len(matrices) * room, dtype=torch.float32)
    at = scratch.data_ptr()
    calls = (_Product * len(matrices))(
        *(
            _product(x, m, y, at + 4 * room * i, at + 4 * (room * i + tokens * stride))
            for i, (m, y) in enumerate(zip(matrices, results, strict=True))
        )
    )
    loaded().multiply(calls, len(matrices))
    return results


def _product(x: Tensor, matrix: Matrix, y: Tensor, wide: int, totals: int) -> _Product:
    weight, scales, zeros, bias = matrix.weight, matrix.scales, matrix.zeros, matrix.bias
    cols = x.shape[-1]
    return _Product(
        weight.data_ptr(),
        None if scales is None else scales.data_ptr(),
        None if zeros is None else zeros.data_ptr(),
        None if bias is None else bias.data_ptr(),
        x.data_ptr(),
        y.data_ptr(),
        wide,
        totals,
        x.numel() // cols,
        weight.shape[0],
        cols,
        0 if zeros is None else cols // zeros.shape[1],
        _WEIGHTS[weight.dtype],
        x.dtype == torch.bfloat16,
        zeros is not None and zeros.dtype == torch.bfloat16,
        torch.get_num_threads(),
    )
