"""The way back for recurrent states, which cannot be cut like keys and values.

A trail keeps a copy of a layer's state before the first of some tokens, and what each of them fed
to the convolution and the scan. To go back to any of them the copy is put back and the inputs of
the tokens that stay are replayed: only the state is computed, and no large matrix is read. The
arithmetic is that of decoding, so the state is the very one that decoding would have left; and the
convolution's part and the scan's always move together.

Memory: one more copy of the recurrent states, and ``tokens`` inputs a row and layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from dynexit.models.cache import RecurrentState
    from dynexit.models.placement import Placement


class Trail:
    """Of one layer: up to ``tokens`` tokens a row with inputs of ``width`` channels each."""

    def __init__(self, state: RecurrentState, tokens: int, width: int) -> None:
        rows = state.ssm.shape[0]
        self._conv = state.conv.new_zeros(state.conv.shape)
        self._ssm = state.ssm.new_zeros(state.ssm.shape)
        self._inputs = state.conv.new_zeros(rows, tokens, width)
        self._begins: list[int | None] = [None] * rows  # position of the first token

    def nbytes(self) -> int:
        """Bytes held."""
        return self._conv.nbytes + self._ssm.nbytes + self._inputs.nbytes

    def begin(self, row: int, position: int, state: RecurrentState) -> None:
        """The next token of ``row``, at ``position``, is the first one to which it may go back."""
        self._conv[row].copy_(state.conv[row])
        self._ssm[row].copy_(state.ssm[row])
        self._begins[row] = position

    def end(self, row: int) -> None:
        """No way back any more."""
        self._begins[row] = None

    def write(self, inputs: Tensor, place: Placement) -> None:
        """Inputs [B, T, width] of tokens at ``place``; rows without a beginning are left out."""
        rows = range(place.batch) if place.numbers is None else place.numbers
        for b, row in enumerate(rows):
            begin = self._begins[row]
            if begin is not None:
                at, count = place.starts[b] - begin, place.lengths[b]
                self._inputs[row, at : at + count] = inputs[b, :count]

    def back(self, row: int, length: int, state: RecurrentState) -> Tensor:
        """Put the copy back into ``state`` and give the inputs [1, T, width] of the tokens at
        positions below ``length``, which are to be replayed; the trail ends."""
        begin = self._begins[row]
        if begin is None or length < begin:
            raise ValueError(f"row {row} has no way back to {length} tokens")
        state.conv[row].copy_(self._conv[row])
        state.ssm[row].copy_(self._ssm[row])
        self.end(row)
        return self._inputs[row : row + 1, : length - begin]
