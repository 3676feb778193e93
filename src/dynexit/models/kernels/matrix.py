"""Products of a few hidden states with one matrix; see ``matrix.c``."""

from __future__ import annotations

import ctypes
import functools

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from dynexit.models.kernels.build import library, loaded, tiled

MOST_TOKENS = 8
"""Up to here a kernel is bound by memory, and PyTorch's matrix product gains nothing."""
_MOST = {torch.int8: 64, torch.uint8: 256}
"""PyTorch makes these floating point before it multiplies, which takes as long as so many do."""
_MOST_BY_TILES = {torch.bfloat16: 64, torch.int8: 512, torch.uint8: 512}  # 64 share a tile
_RUN = 128  # columns to which the kernels round up
_KINDS = (torch.float32, torch.bfloat16)  # of hidden states
_WEIGHTS = {torch.float32: 0, torch.bfloat16: 1, torch.int8: 2, torch.uint8: 3}
_POINTER, _LONG, _INT = ctypes.c_void_p, ctypes.c_long, ctypes.c_int


class Product(ctypes.Structure):
    """As ``matrix.h`` has it."""

    _fields_ = (
        ("weight", _POINTER),
        ("scales", _POINTER),
        ("zeros", _POINTER),
        ("bias", _POINTER),
        ("x", _POINTER),
        ("y", _POINTER),
        ("wide", _POINTER),
        ("totals", _POINTER),
        ("residual", _POINTER),
        ("tokens", _LONG),
        ("rows", _LONG),
        ("cols", _LONG),
        ("group", _LONG),
        ("scale", ctypes.c_float),
        ("kind", _INT),
        ("is_bf16", _INT),
        ("scale_is_bf16", _INT),
        ("residual_is_bf16", _INT),
        ("threads", _INT),
    )


def most_tokens(dtype: torch.dtype) -> int:
    """Of so many tokens, with weights of this type, the kernels are the fastest there is here."""
    most = _MOST.get(dtype, MOST_TOKENS)
    return max(most, _MOST_BY_TILES.get(dtype, 0)) if tiled() else most


def usable(x: Tensor, weight: Tensor) -> bool:
    """Whether a kernel should multiply ``x`` [..., in] with ``weight`` here and now."""
    return 0 < x.numel() <= most_tokens(weight.dtype) * x.shape[-1] and available(x, weight)


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


class Matrix:
    """A matrix as the kernels take it.

    ``weight`` [out, in] in the type of the hidden states; or int8 [out, in] with one fp32 scale
    a row; or uint8 [out, 64 * runs] as ``packing`` has it with ``scales`` and ``zeros``
    [out, groups] in fp32 or bf16. ``bias`` [out] is in the type of the hidden states. The memory of
    all of them is kept alive and read by address.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        scales: Tensor | None = None,
        zeros: Tensor | None = None,
    ) -> None:
        self.rows = weight.shape[0]
        self.address, self.nbytes = weight.data_ptr(), weight.nbytes
        self.most_tokens = most_tokens(weight.dtype)
        parts = (weight, scales, zeros, bias)
        self._held = tuple(None if part is None else part.detach() for part in parts)
        addresses = (None if part is None else part.data_ptr() for part in parts)
        self.call = Product(
            *addresses,
            rows=self.rows,
            group=0 if zeros is None else zeros.shape[1],  # of which multiply makes columns
            kind=_WEIGHTS[weight.dtype],
            scale_is_bf16=zeros is not None and zeros.dtype == torch.bfloat16,
        )


def multiply(x: Tensor, *matrices: Matrix) -> list[Tensor]:
    """``x`` [..., in] times each of the matrices, plus its bias: [..., out] each."""
    x = x.contiguous()
    shape, cols = x.shape[:-1], x.shape[-1]
    tokens, stride = x.numel() // cols, -(-cols // _RUN) * _RUN
    is_bf16, threads = x.dtype == torch.bfloat16, torch.get_num_threads()
    # for each matrix x in fp32 and the sums of its groups, of which there are fewer than columns
    room = 4 * tokens * stride
    scratch = torch.empty(len(matrices) * room // 2, dtype=torch.float32)
    source, at = x.data_ptr(), scratch.data_ptr()
    calls, results = _array(len(matrices))(), []
    for i, matrix in enumerate(matrices):
        y = x.new_empty((*shape, matrix.rows))
        results.append(y)
        calls[i] = matrix.call
        call = calls[i]
        call.x, call.y, call.wide, call.totals = source, y.data_ptr(), at, at + room
        call.tokens, call.cols, call.is_bf16, call.threads = tokens, cols, is_bf16, threads
        if call.group:
            call.group = cols // call.group
        at += 2 * room
    loaded().multiply(calls, len(matrices))
    return results


@functools.cache
def _array(count: int) -> type[ctypes.Array[Product]]:
    return Product * count
