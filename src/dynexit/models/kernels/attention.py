"""A few tokens of each row through causal attention over the cache; see ``attention.c``."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from dynexit.models.kernels.build import loaded
from dynexit.models.kernels.span import Span, SpanFields

_LANES, _QUERIES = 16, 4
_POINTER, _LONG, _INT = ctypes.c_void_p, ctypes.c_long, ctypes.c_int


class _Attention(ctypes.Structure):
    _fields_ = (
        *((name, _POINTER) for name in ("q", "k", "v", "cosine", "sine", "keys", "values", "out")),
        ("scratch", _POINTER),
        ("span", SpanFields),
        *((name, _LONG) for name in ("heads", "kv_heads", "size", "turned")),
        *((name, _LONG) for name in ("tables", "capacity", "window", "room")),
        ("scale", ctypes.c_float),
        ("is_bf16", _INT),
        ("threads", _INT),
    )


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rotation: tuple[Tensor, Tensor] | None,
    cache: tuple[Tensor, Tensor],
    span: Span,
    window: int | None,
    scale: float,
) -> Tensor:
    """``q`` [B, T, heads, size], ``k`` and ``v`` [B, T, kv_heads, size], not rotated yet;
    ``rotation`` cosines and signed sines [B or 1, 1, T, dim] of ``models.rope``; ``cache`` keys and
    values [slots, kv_heads, capacity, size], to which these tokens are written. All of one type,
    bf16 or fp32, and ``size`` a multiple of 16. Returns [B, T, heads * size]."""
    rows, tokens, heads, size = q.shape
    keys, values = cache
    out = q.new_empty(rows, tokens, heads * size)
    cosine, sine = (None, None) if rotation is None else rotation
    threads, room = torch.get_num_threads(), -(-span.end // _LANES) * _LANES
    scratch = torch.empty(threads * _QUERIES * room)
    call = _Attention(
        q.data_ptr(),
        k.data_ptr(),
        v.data_ptr(),
        None if cosine is None else cosine.data_ptr(),
        None if sine is None else sine.data_ptr(),
        keys.data_ptr(),
        values.data_ptr(),
        out.data_ptr(),
        scratch.data_ptr(),
        span.fields,
        heads,
        keys.shape[1],
        size,
        0 if cosine is None else cosine.shape[-1],
        0 if cosine is None else cosine.numel() // cosine.shape[-1],
        keys.shape[2],
        window or 0,
        room,
        scale,
        q.dtype == torch.bfloat16,
        threads,
    )
    loaded().attend(ctypes.byref(call))
    return out
