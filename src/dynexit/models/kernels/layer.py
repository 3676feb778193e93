"""A whole layer in one call; see ``layer.c``."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dynexit.models.kernels.build import loaded
from dynexit.models.kernels.matrix import Product
from dynexit.models.kernels.span import Span, SpanFields

_POINTER, _LONG, _REAL, _INT = ctypes.c_void_p, ctypes.c_long, ctypes.c_float, ctypes.c_int


def _each(kind: Any, names: str) -> tuple[tuple[str, Any], ...]:
    return tuple((name, kind) for name in names.split())


class AttentionPart(ctypes.Structure):
    """As ``layer.h`` has it, like all of these."""

    _fields_ = (
        *_each(Product, "q k v o"),
        *_each(_POINTER, "q_norm k_norm"),
        *_each(_LONG, "heads kv_heads size turned window"),
        *_each(_REAL, "norm_eps scale"),
    )


class Mamba2Part(ctypes.Structure):
    _fields_ = (
        *_each(Product, "input out"),
        *_each(_POINTER, "conv conv_bias dt_bias a_log skip norm"),
        *_each(_LONG, "inner channels taps heads width groups size"),
        *_each(_REAL, "dt_min dt_max norm_eps"),
    )


class MambaPart(ctypes.Structure):
    _fields_ = (
        *_each(Product, "input select dt out"),
        *_each(_POINTER, "conv conv_bias a_log skip dt_norm b_norm c_norm"),
        *_each(_LONG, "inner taps rank size"),
        *_each(_REAL, "norm_eps"),
    )


class MlpPart(ctypes.Structure):
    _fields_ = (*_each(Product, "gate up down"), *_each(_INT, "activation"))


class LayerFields(ctypes.Structure):
    _fields_ = (
        *_each(_POINTER, "mixer_norm mlp_norm attention mamba2 mamba mlp"),
        *_each(_LONG, "width widest"),
        *_each(_REAL, "eps scale"),
        *_each(_INT, "is_bf16 stream_is_bf16 adds"),
    )


class _Call(ctypes.Structure):
    _fields_ = (
        *_each(_POINTER, "stream out first second cosine sine projected room"),
        ("span", SpanFields),
        *_each(_LONG, "tables capacity longest"),
        *_each(_INT, "threads"),
    )


_A_THREADS_WORTH = 1 << 18
"""Bytes of weights that take as long to read as a further thread takes to call and to wait for."""


class Layer:
    """A layer as the kernels take it, its matrices of ``weight_bytes`` in all. ``held`` are all
    the parts and tensors to whose memory ``fields`` points; they are kept alive."""

    def __init__(self, fields: LayerFields, held: Sequence[object], weight_bytes: int) -> None:
        self._fields, self._held = fields, tuple(held)
        self._most_threads = 1 + weight_bytes // _A_THREADS_WORTH
        self._address = ctypes.addressof(fields)
        self._rooms: dict[tuple[int, int, int, bool, bool], int] = {}

    def run(
        self,
        stream: Tensor,
        out: Tensor | None,
        states: tuple[Tensor, Tensor] | None,
        rotation: tuple[Tensor, Tensor] | None,
        span: Span,
        projected: Tensor | None = None,
    ) -> None:
        """``stream`` [B, T, hidden] through the layer to ``out``, of the same type and both
        contiguous; without ``out`` only the states are brought up to date. A mixer alone, that adds
        to no stream, gives [B, T, out] in its own type. ``states`` are those of the mixer,
        ``rotation`` that of its positions (``models.rope``), and into ``projected`` goes what a
        recurrent mixer's in-projection gives."""
        keys = None if states is None else states[0]
        longest = max(16, 1 << (span.end - 1).bit_length())
        threads = min(torch.get_num_threads(), self._most_threads)
        call = _Call(
            stream.data_ptr(),
            None if out is None else out.data_ptr(),
            *(None, None) if states is None else (states[0].data_ptr(), states[1].data_ptr()),
            *(None, None) if rotation is None else (rotation[0].data_ptr(), rotation[1].data_ptr()),
            None if projected is None else projected.data_ptr(),
            None,
            span.fields,
            0 if rotation is None else rotation[0].numel() // rotation[0].shape[-1],
            0 if keys is None else keys.shape[-2],
            longest,
            threads,
        )
        key = (span.tokens, longest, threads, out is None, projected is None)
        needed = self._rooms.get(key)
        if needed is None:
            needed = self._rooms[key] = loaded().layer_room(self._address, ctypes.byref(call))
        room = torch.empty(needed, dtype=torch.uint8)
        call.room = room.data_ptr()
        loaded().run_layer(self._address, ctypes.byref(call))
