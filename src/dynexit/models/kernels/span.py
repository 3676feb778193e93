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
        *((name, _POINTER) for name in ("slots", "starts", "lengths")),
        *((name, _LONG) for name in ("rows", "tokens")),
    )


@dataclass(frozen=True)
class Span:
    """The tokens of each row, all [B] (int64): their row of the cache, the position of the first,
    and how many there are; ``end`` is the longest text with them, and ``padded`` says whether
    ``lengths`` differ."""

    slots: Tensor
    starts: Tensor
    lengths: Tensor
    end: int
    padded: bool

    @cached_property
    def addresses(self) -> tuple[int, int, int]:
        """Of the three tensors."""
        return self.slots.data_ptr(), self.starts.data_ptr(), self.lengths.data_ptr()

    def fields(self, rows: int, tokens: int) -> SpanFields:
        """For a call with ``rows`` rows of ``tokens`` columns."""
        return SpanFields(*self.addresses, rows, tokens)
