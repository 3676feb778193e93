"""The tokens of a call a few at a time, as our own kernels take them.

Of one text these are its parts, one after the other. Of several texts, of different lengths, they
are packed: tokens of a row lie behind those of the row before, without padding between them, and a
piece may hold the end of one row and the beginning of the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor

from dynexit.models.kernels import Span
from dynexit.models.placement import Placement
from dynexit.models.rope import RopeTable


class Packed(Placement):
    """Tokens of several rows in one [1, N, ...]. Only kernels that take a whole layer, or whole
    mixer, can read it."""

    @cached_property
    def span(self) -> Span:
        firsts = [0, *accumulate(self.lengths)]
        starts, numbers = torch.tensor(self.starts), torch.tensor(firsts)
        return Span(self.slots, starts, self.ends, numbers, firsts[-1], self.end)

    @cached_property
    def positions(self) -> Tensor:
        """Position of every token [1, N]."""
        each = zip(self.starts, self.lengths, strict=True)
        return torch.cat([torch.arange(start, start + count) for start, count in each])[None]

    def _rotation(self, table: RopeTable, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        cos, sin = table.upto(self.end, dtype, self.device)
        return cos[self.positions][:, None], sin[self.positions][:, None]


class Pieces:
    """A call on the host, ``most`` tokens at a time: where those of each piece sit."""

    def __init__(self, place: Placement, most: int) -> None:
        self._lengths, self._width, self._padded = place.lengths, place.width, place.padded
        self._most = most
        if place.batch == 1:
            self.places: list[Placement] = place.pieces(most)
        else:
            self.places = [_packed(place, runs) for runs in _runs(place.lengths, most)]

    @classmethod
    def of(cls, place: Placement, most: int) -> Pieces:
        """Those of ``place``, made once for all calls of layers that share it."""
        if most not in place.in_pieces:
            place.in_pieces[most] = cls(place, most)
        return place.in_pieces[most]

    def split(self, hidden: Tensor) -> list[Tensor]:
        """``hidden`` [B, T, hidden] piece by piece, [1, N, hidden] each."""
        if self._padded:
            hidden = hidden.flatten(0, 1)[self._tokens]
        return list(torch.split(hidden.reshape(1, -1, hidden.shape[-1]), self._most, dim=1))

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """[B, T, hidden], with zeros at padding."""
        every = torch.cat(list(parts), dim=1)[0]
        rows, width = len(self._lengths), self._width
        if not self._padded:
            return every.view(rows, width, -1)
        out = every.new_zeros(rows * width, every.shape[-1])
        out[self._tokens] = every
        return out.view(rows, width, -1)

    @cached_property
    def _tokens(self) -> Tensor:
        """Number of every token among the columns of the padded call [N]."""
        width, each = self._width, enumerate(self._lengths)
        return torch.cat([torch.arange(row * width, row * width + count) for row, count in each])


def _packed(place: Placement, runs: Sequence[tuple[int, int, int]]) -> Packed:
    """Where tokens of several rows sit that form one piece."""
    numbers = place.numbers or range(place.batch)
    return Packed(
        [place.starts[row] + at for row, at, _ in runs],
        [count for *_, count in runs],
        [numbers[row] for row, *_ in runs],
    )


def _runs(lengths: Sequence[int], most: int) -> list[list[tuple[int, int, int]]]:
    """Rows of these lengths, ``most`` tokens at a time: row, first token and how many."""
    pieces: list[list[tuple[int, int, int]]] = [[]]
    room = most
    for row, length in enumerate(lengths):
        at = 0
        while at < length:
            if room == 0:
                pieces.append([])
                room = most
            count = min(room, length - at)
            pieces[-1].append((row, at, count))
            at, room = at + count, room - count
    return pieces
