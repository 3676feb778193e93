"""Where the tokens of a call are, as the kernels take it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


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
