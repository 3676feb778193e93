"""A few tokens of each row through the recurrent parts of Mamba and Mamba-2; see ``recurrent.c``.

Everywhere the types are bf16 or fp32 throughout with states in fp32 (the convolution's in the type
of the weights), and the numbers of channels and of the state are multiples of ``LANES``. Outputs at
padding are zeros.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dynexit.models.kernels.build import loaded
from dynexit.models.kernels.span import Span

LANES = 16


def fits(*sizes: int) -> bool:
    """Whether these numbers of channels can be done sixteen at a time."""
    return all(size % LANES == 0 for size in sizes)


def conv_step(x: Tensor, conv: Tensor, weight: Tensor, bias: Tensor | None, span: Span) -> Tensor:
    """Causal convolution and SiLU of ``x`` [B, T, channels] (a part of wider tokens is allowed),
    with ``weight`` [channels, 1, taps]; ``conv`` [slots, taps - 1, channels] moves on."""
    rows, tokens, channels = x.shape
    out = _room(x, span, channels)
    loaded().conv_step(
        x.data_ptr(),
        x.stride(1),
        conv.data_ptr(),
        weight.data_ptr(),
        None if bias is None else bias.data_ptr(),
        out.data_ptr(),
        span.slots.data_ptr(),
        span.lengths.data_ptr(),
        rows,
        tokens,
        channels,
        weight.shape[-1],
        x.dtype == torch.bfloat16,
        torch.get_num_threads(),
    )
    return out


def ssd_step(
    mixed: Tensor,
    dt: Tensor,
    dt_bias: Tensor,
    a_log: Tensor,
    skip: Tensor,
    limits: tuple[float, float],
    ssm: Tensor,
    span: Span,
    groups: int,
    output: bool,
) -> Tensor:
    """``mixed`` [B, T, heads * width + 2 * groups * size] is x, B and C side by side, ``dt``
    [B, T, heads] (a part of wider tokens) the time step before bias, softplus and ``limits``;
    ``ssm`` [slots, heads, width, size]. The output [B, T, heads * width] in fp32 with D x in it,
    empty if not wanted."""
    rows, tokens, (_, heads, width, size) = *mixed.shape[:2], ssm.shape
    y = _room(mixed, span, heads * width if output else 0, torch.float32)
    scratch = ssm.new_empty(rows * tokens * 2 * groups * size)
    loaded().ssd_step(
        mixed.data_ptr(),
        dt.data_ptr(),
        dt.stride(1),
        dt_bias.data_ptr(),
        a_log.data_ptr(),
        skip.data_ptr(),
        *limits,
        ssm.data_ptr(),
        y.data_ptr() if output else None,
        scratch.data_ptr(),
        span.slots.data_ptr(),
        span.lengths.data_ptr(),
        rows,
        tokens,
        heads,
        width,
        groups,
        size,
        mixed.dtype == torch.bfloat16,
        torch.get_num_threads(),
    )
    return y


def gated_norm(y: Tensor, gate: Tensor, weight: Tensor, groups: int, eps: float) -> Tensor:
    """RMS norm by group of ``y * silu(gate)``, in the type of ``weight``; ``y`` [B, T, inner] in
    fp32 is used up, ``gate`` [B, T, inner] may be a part of wider tokens."""
    rows, tokens, inner = y.shape
    out = gate.new_empty(rows, tokens, inner)
    loaded().gated_norm(
        y.data_ptr(),
        gate.data_ptr(),
        gate.stride(1),
        weight.data_ptr(),
        out.data_ptr(),
        rows * tokens,
        inner,
        groups,
        eps,
        weight.dtype == torch.bfloat16,
    )
    return out


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
) -> Tensor:
    """``x`` [B, T, inner], ``dt`` [B, T, inner] before softplus, ``b`` and ``c`` [B, T, size] in
    fp32; ``ssm`` [slots, inner, size]. ``(C h + D x) silu(gate)`` [B, T, inner]; without a gate it
    is empty, and the state alone is computed."""
    rows, tokens, inner = x.shape
    out = _room(x, span, 0 if gate is None else inner)
    loaded().selective_step(
        x.data_ptr(),
        dt.data_ptr(),
        b.data_ptr(),
        c.data_ptr(),
        a_log.data_ptr(),
        skip.data_ptr(),
        None if gate is None else gate.data_ptr(),
        0 if gate is None else gate.stride(1),
        ssm.data_ptr(),
        None if gate is None else out.data_ptr(),
        span.slots.data_ptr(),
        span.lengths.data_ptr(),
        rows,
        tokens,
        inner,
        ssm.shape[-1],
        x.dtype == torch.bfloat16,
        torch.get_num_threads(),
    )
    return out


def _room(x: Tensor, span: Span, channels: int, dtype: torch.dtype | None = None) -> Tensor:
    """For outputs [B, T, channels]; the kernels leave padding as it is."""
    make = x.new_zeros if span.padded else x.new_empty
    return make(*x.shape[:2], channels, dtype=x.dtype if dtype is None else dtype)
