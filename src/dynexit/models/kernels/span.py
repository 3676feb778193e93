"""Where the tokens of a call sit, as the kernels take it."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

_POINTER, _LONG = ctypes.c_void_p, ctypes.c_long


class SpanFields(ctypes.Structure):
    """As ``span.h`` has it."""

    _fields_ = (
        *((name, _POINTER) for name in ("slots", "starts", "lengths", "firsts")),
        *((name, _LONG) for name in ("rows", "tokens")),
    )


@dataclass(frozen=True)
class Span:
    """The ``tokens`` of a call by rows, all [B] (int64): their row of the cache, the position of
    the first, and how many there are; ``firsts`` [B + 1] is the number in the call of each row's
    first token, and where the last row ends. ``end`` is the longest text with them."""

    slots: Tensor
    starts: Tensor
    lengths: Tensor
    firsts: Tensor
    tokens: int
    end: int

    @cached_property
    def fields(self) -> SpanFields:
        """For the kernels, which read the memory of these tensors."""
        tensors = (self.slots, self.starts, self.lengths, self.firsts)
        return SpanFields(*(t.data_ptr() for t in tensors), len(self.slots), self.tokens)
