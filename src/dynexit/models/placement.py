"""Where the tokens of one call sit: which rows of the cache, from which position, how many.

Input is right-padded: row b of a call holds ``lengths[b]`` tokens at positions ``starts[b]``
onwards, then padding, which can change nothing: attention never looks beyond a token's own
position, and state-space layers are told the lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from dynexit.models.config import RopeConfig
from dynexit.models.rope import rope_tables


class Placement:
    """Positions, rotary tables and attention masks of one call, computed once for all layers.

    ``rows`` lists the cache rows of the call, None when they are all of them in order.
    """

    def __init__(
        self,
        starts: Sequence[int],
        lengths: Sequence[int],
        rows: Sequence[int] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.starts = tuple(starts)
        self.lengths = tuple(lengths)
        self.width = max(self.lengths)
        self.end = max(s + n for s, n in zip(self.starts, self.lengths, strict=True))
        self.device = torch.device(device)
        self._rows = None if rows is None else tuple(rows)
        self._masks: dict[int | None, Tensor | None] = {}
        self._rotations: dict[int, tuple[Tensor, Tensor]] = {}

    @property
    def batch(self) -> int:
        return len(self.starts)

    @cached_property
    def uniform(self) -> bool:
        """All rows start at one position, without padding, and are the cache's rows in order."""
        same = len(set(self.starts)) == 1 and len(set(self.lengths)) == 1
        return same and self._rows is None

    @cached_property
    def padded(self) -> bool:
        return len(set(self.lengths)) > 1

    @cached_property
    def rows(self) -> Tensor | None:
        """Cache rows as an index [B], None for all of them."""
        if self._rows is None:
            return None
        return torch.tensor(self._rows, dtype=torch.long, device=self.device)

    @cached_property
    def positions(self) -> Tensor:
        """Position of every column [B, T]; padding columns run on beyond the row's length."""
        starts = torch.tensor(self.starts, device=self.device)
        return starts[:, None] + torch.arange(self.width, device=self.device)

    @cached_property
    def valid(self) -> Tensor:
        """True where a column holds a token, False where padding [B, T]."""
        lengths = torch.tensor(self.lengths, device=self.device)
        return torch.arange(self.width, device=self.device) < lengths[:, None]

    @cached_property
    def ends(self) -> Tensor:
        """Number of tokens of each row [B]."""
        return torch.tensor(self.lengths, device=self.device)

    def rotation(self, table: RopeTable) -> tuple[Tensor, Tensor]:
        """Cosines and sines for this call, [B or 1, 1, T, dim]."""
        key = id(table)
        if key not in self._rotations:
            cos, sin = table.upto(self.end if not self.padded else max(self.starts) + self.width)
            if self.uniform:
                at = slice(self.starts[0], self.starts[0] + self.width)
                self._rotations[key] = (cos[at][None, None], sin[at][None, None])
            else:
                self._rotations[key] = (cos[self.positions][:, None], sin[self.positions][:, None])
        return self._rotations[key]

    def mask(self, window: int | None) -> Tensor | None:
        """Which cached positions each query sees, bool [B or 1, 1, T, end]; None if all do."""
        if window not in self._masks:
            self._masks[window] = self._build_mask(window)
        return self._masks[window]

    def _build_mask(self, window: int | None) -> Tensor | None:
        if self.uniform and self.width == 1:
            return None
        keys = torch.arange(self.end, device=self.device)
        queries = self.positions[:1] if self.uniform else self.positions
        seen = keys <= queries[..., None]
        if window is not None:
            seen &= keys > queries[..., None] - window
        return seen[:, None]


class RopeTable:
    """Rotary tables of one configuration, grown as longer texts come.

    Dynamic scaling changes every angle once a text is longer than the trained context, so its
    tables are made anew for each such length.
    """

    def __init__(self, rope: RopeConfig, dtype: torch.dtype, device: torch.device | str) -> None:
        self.rope = rope
        self.dtype = dtype
        self.device = device
        self._length = 0
        self._tables: tuple[Tensor, Tensor] = (torch.empty(0), torch.empty(0))

    def upto(self, length: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines for positions 0..length-1 at least, each [>= length, dim]."""
        dynamic = self.rope.kind == "dynamic" and max(length, self._length) > (
            self.rope.max_positions
        )
        if length > self._length or (dynamic and length != self._length):
            self._length = length if dynamic else max(256, 1 << (length - 1).bit_length())
            if self.rope.kind == "dynamic" and length <= self.rope.max_positions:
                self._length = min(self._length, self.rope.max_positions)
            cos, sin = rope_tables(self.rope, self._length)
            self._tables = (
                cos.to(self.device, self.dtype),
                sin.to(self.device, self.dtype),
            )
        return self._tables
