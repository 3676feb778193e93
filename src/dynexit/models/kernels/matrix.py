"""Products of a few hidden states with one matrix; see ``matrix.c``."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from dynexit.models.kernels.build import library, loaded

MOST_TOKENS = 8
"""Up to here the kernel is bound by memory, and PyTorch's matrix product gains nothing."""
_RUN = 128  # columns to which the kernels round up
_KINDS = (torch.float32, torch.bfloat16)
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


def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``x`` [..., in] times ``weight`` [out, in] of the same type (bf16 or fp32), plus ``bias``."""
    lib = loaded()
    run = lib.product_bf16 if x.dtype == torch.bfloat16 else lib.product_f32
    return _run(run, x, weight, bias)


def product_i8(x: Tensor, weight: Tensor, scales: Tensor, bias: Tensor | None) -> Tensor:
    """``weight`` int8 [out, in] with one fp32 scale a row [out]."""
    return _run(loaded().product_i8, x, weight, bias, scales)


def product_i4(
    x: Tensor, weight: Tensor, scales: Tensor, zeros: Tensor, bias: Tensor | None
) -> Tensor:
    """``weight`` uint8 [out, 64 * runs] as ``packing`` has it, ``scales`` and ``zeros``
    [out, groups] in fp32 or bf16."""
    return _run(loaded().product_i4, x, weight, bias, scales, zeros)


def _run(
    run: Callable[[object], object],
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    scales: Tensor | None = None,
    zeros: Tensor | None = None,
) -> Tensor:
    x = x.contiguous()
    rows, cols = weight.shape[0], x.shape[-1]
    tokens = x.numel() // cols
    groups = 0 if zeros is None else zeros.shape[1]
    y = x.new_empty((*x.shape[:-1], rows))
    stride = -(-cols // _RUN) * _RUN
    scratch = torch.empty(tokens * (stride + groups), dtype=torch.float32)
    call = _Product(
        weight.data_ptr(),
        None if scales is None else scales.data_ptr(),
        None if zeros is None else zeros.data_ptr(),
        None if bias is None else bias.data_ptr(),
        x.data_ptr(),
        y.data_ptr(),
        scratch.data_ptr(),
        scratch.data_ptr() + 4 * tokens * stride,
        tokens,
        rows,
        cols,
        cols // groups if groups else 0,
        x.dtype == torch.bfloat16,
        zeros is not None and zeros.dtype == torch.bfloat16,
        torch.get_num_threads(),
    )
    run(ctypes.byref(call))
    return y
