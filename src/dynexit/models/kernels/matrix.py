"""Products of a few hidden states with one matrix; see ``matrix.c``."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from dynexit.models.kernels.build import library, loaded

MOST_TOKENS = 8
"""Up to here the kernel is bound by memory, and PyTorch's matrix product gains nothing."""
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
    return x.numel() <= MOST_TOKENS * x.shape[-1] and available(x, weight)


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
    call, x, y = _prepare(x, weight, bias, None, None, 0)
    lib = loaded()
    (lib.product_bf16 if call.is_bf16 else lib.product_f32)(ctypes.byref(call))
    return y


def product_i8(x: Tensor, weight: Tensor, scales: Tensor, bias: Tensor | None) -> Tensor:
    """``weight`` int8 [out, in] with one fp32 scale a row [out]."""
    call, x, y = _prepare(x, weight, bias, scales, None, 0)
    loaded().product_i8(ctypes.byref(call))
    return y


def product_i4(
    x: Tensor, weight: Tensor, scales: Tensor, zeros: Tensor, bias: Tensor | None
) -> Tensor:
    """``weight`` uint8 [out, 64 * runs] as ``quantized.py`` packs it, ``scales`` and ``zeros``
    [out, groups] in fp32 or bf16."""
    cols, groups = x.shape[-1], scales.shape[1]
    call, x, y = _prepare(x, weight, bias, scales, zeros, cols // groups)
    wide = torch.empty(call.tokens * weight.shape[1] * 2)
    totals = torch.empty(call.tokens * groups)
    loaded().product_i4(ctypes.byref(call), wide.data_ptr(), totals.data_ptr())
    return y


def _prepare(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    scales: Tensor | None,
    zeros: Tensor | None,
    group: int,
) -> tuple[_Product, Tensor, Tensor]:
    """The call, ``x`` side by side in memory (to be held until it is done), and room for ``y``."""
    x = x.contiguous()
    rows, cols = weight.shape[0], x.shape[-1]
    y = x.new_empty((*x.shape[:-1], rows))
    call = _Product(
        weight.data_ptr(),
        None if scales is None else scales.data_ptr(),
        None if zeros is None else zeros.data_ptr(),
        None if bias is None else bias.data_ptr(),
        x.data_ptr(),
        y.data_ptr(),
        x.numel() // cols,
        rows,
        cols,
        group,
        x.dtype == torch.bfloat16,
        scales is not None and scales.dtype == torch.bfloat16,
        torch.get_num_threads(),
    )
    return call, x, y
