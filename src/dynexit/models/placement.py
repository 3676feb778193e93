"""Where the tokens of one call sit: which rows of the cache, from which position, how many.

Input is right-padded: row b of a call holds ``lengths[b]`` tokens at positions ``starts[b]``
onwards, then padding, which can change nothing: attention never looks beyond a token's own
position, and state-space layers are told the lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dynexit.models.kernels import MOST_TOKENS, Span
from dynexit.models.rope import RopeTable

if TYPE_CHECKING:
    from dynexit.models.pieces import Pieces

_SHORT = 1 << 15  # queries of a row times the keys that they see


class Placement:
    """Positions, rotary tables and attention masks of one call, computed once for all layers.

    ``rows`` lists the cache rows of the call, None when they are all of them in order.
    """

    on_host = True
    """Whether starts and lengths are known to the host; our own kernels need that."""

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
        self._masks: dict[tuple[int | None, int], Tensor | None] = {}
        self._rotations: dict[tuple[int, torch.dtype], tuple[Tensor, Tensor]] = {}
        self.in_pieces: dict[int, Pieces] = {}  # what ``Pieces.of`` has made, by their size

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

    @property
    def is_short(self) -> bool:
        """Whether few tokens meet few others, so that attention is no work beside reading weights:
        our own kernel for it makes less of the processor than PyTorch's."""
        return self.width <= MOST_TOKENS or self.width * self.end <= _SHORT

    def pieces(self, width: int) -> list[Placement]:
        """Of a call with one row: where its tokens sit, ``width`` at a time."""
        (begin,), (length,) = self.starts, self.lengths
        return [
            Placement([begin + at], [min(width, length - at)], self._rows, self.device)
            for at in range(0, length, width)
        ]

    @property
    def numbers(self) -> tuple[int, ...] | None:
        """Cache rows as numbers, None for all of them; no device is asked for these."""
        return self._rows

    @cached_property
    def rows(self) -> Tensor | None:
        """Cache rows as an index [B], None for all of them."""
        if self._rows is None:
            return None
        return self._tensor(self._rows)

    def _tensor(self, numbers: Sequence[int]) -> Tensor:
        """``numbers`` on the device, without waiting for it."""
        host = torch.tensor(numbers, dtype=torch.long, pin_memory=self.device.type == "cuda")
        return host.to(self.device, non_blocking=True)

    @cached_property
    def positions(self) -> Tensor:
        """Position of every column [B, T]; padding columns run on beyond the row's length."""
        return self._tensor(self.starts)[:, None] + torch.arange(self.width, device=self.device)

    @cached_property
    def valid(self) -> Tensor:
        """True where a column holds a token, False where padding [B, T]."""
        return torch.arange(self.width, device=self.device) < self.ends[:, None]

    @cached_property
    def ends(self) -> Tensor:
        """Number of tokens of each row [B]."""
        return self._tensor(self.lengths)

    @cached_property
    def slots(self) -> Tensor:
        """Cache row of each row of the call [B]."""
        return torch.arange(self.batch, device=self.device) if self.rows is None else self.rows

    @cached_property
    def span(self) -> Span:
        """All of this as our own kernels take it."""
        starts = torch.tensor(self.starts, device=self.device)
        firsts = torch.arange(self.batch + 1) * self.width
        return Span(self.slots, starts, self.ends, firsts, self.batch * self.width, self.end)

    @cached_property
    def scatter(self) -> tuple[Tensor, Tensor]:
        """Cache row and position of the one token of each row, both [B], for width 1."""
        rows = torch.arange(self.batch, device=self.device) if self.rows is None else self.rows
        return rows, self._tensor(self.starts)

    def rotation(self, table: RopeTable, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosines and sines for this call, [B or 1, 1, T, dim]."""
        key = (id(table), dtype)
        if key not in self._rotations:
            self._rotations[key] = self._rotation(table, dtype)
        return self._rotations[key]

    def _rotation(self, table: RopeTable, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        if self.uniform:
            at = slice(self.starts[0], self.starts[0] + self.width)
            cos, sin = table.upto(self.end, dtype, self.device)
            return cos[at][None, None], sin[at][None, None]
        last = max(self.starts) + self.width  # padding columns have positions too
        cos, sin = table.upto(last, dtype, self.device)
        return cos[self.positions][:, None], sin[self.positions][:, None]

    def mask(self, window: int | None, fold: int = 1) -> Tensor | None:
        """Which cached positions each query sees, bool [B or 1, 1, fold * T, end].

        ``fold`` repeats the queries for heads that share keys. None if all queries see all keys.
        """
        key = (window, fold)
        if key not in self._masks:
            self._masks[key] = self._build_mask(window, fold)
        return self._masks[key]

    def _build_mask(self, window: int | None, fold: int) -> Tensor | None:
        if self.uniform and self.width == 1:
            return None
        keys = torch.arange(self.end, device=self.device)
        queries = self.positions[:1] if self.uniform else self.positions
        seen = keys <= queries[..., None]
        if window is not None:
            seen &= keys > queries[..., None] - window
        return seen[:, None].repeat(1, 1, fold, 1)
