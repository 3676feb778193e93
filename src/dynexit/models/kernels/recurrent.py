"""A few tokens of each row through the recurrent parts of Mamba and Mamba-2; see ``recurrent.c``.

Everywhere the types are bf16 or fp32 throughout with states in fp32 (the convolution's in the type
of the weights), and the numbers of channels and of the state are multiples of ``LANES``. Outputs at
padding are zeros.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from dynexit.models.kernels.build import loaded
from dynexit.models.kernels.span import Span, SpanFields

LANES = 16
_POINTER, _LONG, _INT = ctypes.c_void_p, ctypes.c_long, ctypes.c_int
_END = (("is_bf16", _INT), ("threads", _INT))


class _Conv(ctypes.Structure):
    _fields_ = (
        *((name, _POINTER) for name in ("x", "state", "weight", "bias", "out")),
        ("span", SpanFields),
        *((name, _LONG) for name in ("stride", "channels", "taps")),
        *_END,
    )


class _Ssd(ctypes.Structure):
    _fields_ = (
        *((name, _POINTER) for name in ("mixed", "dt", "dt_bias", "a_log", "skip", "gate")),
        *((name, _POINTER) for name in ("ssm", "y")),
        ("span", SpanFields),
        *((name, _LONG) for name in ("stride", "heads", "width", "groups", "size")),
        *((name, ctypes.c_float) for name in ("dt_min", "dt_max")),
        *_END,
    )


class _Selective(ctypes.Structure):
    _fields_ = (
        *((name, _POINTER) for name in ("x", "dt", "b", "c", "a_log", "skip", "gate")),
        *((name, _POINTER) for name in ("ssm", "out")),
        ("span", SpanFields),
        *((name, _LONG) for name in ("stride", "inner", "size")),
        *_END,
    )


def fits(*sizes: int) -> bool:
    """Whether these numbers of channels can be done as many at a time as a register holds."""
    return all(size % LANES == 0 for size in sizes)


def conv_step(x: Tensor, conv: Tensor, weight: Tensor, bias: Tensor | None, span: Span) -> Tensor:
    """Causal convolution and SiLU of ``x`` [B, T, channels] (a part of wider tokens is allowed),
    with ``weight`` [channels, 1, taps]; ``conv`` [slots, taps - 1, channels] moves on."""
    rows, tokens, channels = x.shape
    out = x.new_empty(rows, tokens, channels)
    call = _Conv(
        x.data_ptr(),
        conv.data_ptr(),
        weight.data_ptr(),
        None if bias is None else bias.data_ptr(),
        out.data_ptr(),
        span.fields,
        x.stride(1),
        channels,
        weight.shape[-1],
        *_kind(x),
    )
    loaded().conv_step(ctypes.byref(call))
    return out


def ssd_step(
    mixed: Tensor,
    dt: Tensor,
    gate: Tensor | None,
    dt_bias: Tensor,
    a_log: Tensor,
    skip: Tensor,
    limits: tuple[float, float],
    ssm: Tensor,
    span: Span,
    groups: int,
) -> Tensor | None:
    """``mixed`` [B, T, heads * width + 2 * groups * size] is x, B and C side by side, ``dt``
    [B, T, heads] the time step before bias, softplus and ``limits``, ``gate`` [B, T, heads *
    width], both parts of the same wider tokens; ``ssm`` [slots, heads, width, size].
    ``(C h + D x) silu(gate)`` [B, T, heads * width] in fp32; without a gate the state alone."""
    rows, tokens, (_, heads, width, size) = *mixed.shape[:2], ssm.shape
    y = None if gate is None else ssm.new_empty(rows, tokens, heads * width)
    call = _Ssd(
        mixed.data_ptr(),
        dt.data_ptr(),
        dt_bias.data_ptr(),
        a_log.data_ptr(),
        skip.data_ptr(),
        None if gate is None else gate.data_ptr(),
        ssm.data_ptr(),
        None if y is None else y.data_ptr(),
        span.fields,
        dt.stride(1),
        heads,
        width,
        groups,
        size,
        *limits,
        *_kind(mixed),
    )
    loaded().ssd_step(ctypes.byref(call))
    return y


def selective_step(
    x: Tensor,
    dt: Tensor,
    b: Tensor,
    c: Tensor,
    a_log: Tensor,
    skip: Tensor,
    gate: Tensor | None,
    ssm: Tensor,
    span: Span,
) -> Tensor | None:
    """``x`` [B, T, inner], ``dt`` [B, T, inner] before softplus, ``b`` and ``c`` [B, T, size] in
    fp32; ``ssm`` [slots, inner, size]. ``(C h + D x) silu(gate)`` [B, T, inner]; without a gate
    the state alone is computed."""
    inner = x.shape[-1]
    out = None if gate is None else torch.empty_like(x)
    call = _Selective(
        x.data_ptr(),
        dt.data_ptr(),
        b.data_ptr(),
        c.data_ptr(),
        a_log.data_ptr(),
        skip.data_ptr(),
        None if gate is None else gate.data_ptr(),
        ssm.data_ptr(),
        None if out is None else out.data_ptr(),
        span.fields,
        0 if gate is None else gate.stride(1),
        inner,
        ssm.shape[-1],
        *_kind(x),
    )
    loaded().selective_step(ctypes.byref(call))
    return out


def _kind(x: Tensor) -> tuple[bool, int]:
    return x.dtype == torch.bfloat16, torch.get_num_threads()
