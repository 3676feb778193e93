"""One token of each row through the recurrent parts of Mamba and Mamba-2; see ``recurrent.c``.

Everywhere ``slots`` [B] (int64) says which row of the states a row of the call is, the types are
bf16 or fp32 throughout with states in fp32 (the convolution's in the type of the weights), and the
numbers of channels and of the state are multiples of ``LANES``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dynexit.models.kernels.build import loaded

LANES = 16


def fits(*sizes: int) -> bool:
    """Whether these numbers of channels can be done sixteen at a time."""
    return all(size % LANES == 0 for size in sizes)


def conv_step(
    x: Tensor, conv: Tensor, weight: Tensor, bias: Tensor | None, slots: Tensor
) -> Tensor:
    """Causal convolution and SiLU of ``x`` [B, channels] (a part of wider rows is allowed), with
    ``weight`` [channels, 1, taps]; ``conv`` [slots, taps - 1, channels] moves on by one."""
    rows, channels = x.shape
    out = x.new_empty(rows, channels)
    loaded().conv_step(
        x.data_ptr(),
        x.stride(0),
        conv.data_ptr(),
        weight.data_ptr(),
        None if bias is None else bias.data_ptr(),
        out.data_ptr(),
        slots.data_ptr(),
        rows,
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
    slots: Tensor,
    groups: int,
    output: bool,
) -> Tensor:
    """``mixed`` [B, heads * width + 2 * groups * size] is x, B and C side by side, ``dt``
    [B, heads] (a part of wider rows) the time step before bias, softplus and ``limits``; ``ssm``
    [slots, heads, width, size]. The output [B, heads * width] in fp32 with D x in it, empty if not
    wanted."""
    rows, (_, heads, width, size) = mixed.shape[0], ssm.shape
    y = ssm.new_empty(rows, heads * width if output else 0)
    scratch = ssm.new_empty(rows * 2 * groups * size)
    loaded().ssd_step(
        mixed.data_ptr(),
        dt.data_ptr(),
        dt.stride(0),
        dt_bias.data_ptr(),
        a_log.data_ptr(),
        skip.data_ptr(),
        *limits,
        ssm.data_ptr(),
        y.data_ptr() if output else None,
        scratch.data_ptr(),
        slots.data_ptr(),
        rows,
        heads,
        width,
        groups,
        size,
        mixed.dtype == torch.bfloat16,
        torch.get_num_threads(),
    )
    return y


def gated_norm(y: Tensor, gate: Tensor, weight: Tensor, groups: int, eps: float) -> Tensor:
    """RMS norm by group of ``y * silu(gate)``, in the type of ``weight``; ``y`` [B, inner] in fp32
    is used up, ``gate`` [B, inner] may be a part of wider rows."""
    rows, inner = y.shape
    out = gate.new_empty(rows, inner)
    loaded().gated_norm(
        y.data_ptr(),
        gate.data_ptr(),
        gate.stride(0),
        weight.data_ptr(),
        out.data_ptr(),
        rows,
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
    slots: Tensor,
) -> Tensor:
    """``x`` [B, inner], ``dt`` [B, inner] before softplus, ``b`` and ``c`` [B, size] in fp32;
    ``ssm`` [slots, inner, size]. ``(C h + D x) silu(gate)`` [B, inner]; without a gate it is empty,
    and the state alone is computed."""
    rows, inner = x.shape
    out = x.new_empty(rows, 0 if gate is None else inner)
    loaded().selective_step(
        x.data_ptr(),
        dt.data_ptr(),
        b.data_ptr(),
        c.data_ptr(),
        a_log.data_ptr(),
        skip.data_ptr(),
        None if gate is None else gate.data_ptr(),
        0 if gate is None else gate.stride(0),
        ssm.data_ptr(),
        None if gate is None else out.data_ptr(),
        slots.data_ptr(),
        rows,
        inner,
        ssm.shape[-1],
        x.dtype == torch.bfloat16,
        torch.get_num_threads(),
    )
    return out
