"""Batches padded anywhere (most often on the left), brought to the right-padded form and back."""

from __future__ import annotations

import torch
from torch import Tensor


class Padding:
    """Where a batch has its tokens, by an attention mask [B, T] (true or nonzero: a token).

    ``pack`` moves every row's tokens to its front, in order, so that no result can depend on where
    the padding was; ``unpack`` puts what was computed back under the tokens::

        padding = Padding(mask)
        hidden = padding.unpack(run(padding.pack(ids), padding.lengths))
    """

    def __init__(self, mask: Tensor) -> None:
        self._mask = mask.bool()
        counts = self._mask.sum(dim=1)
        self.lengths: tuple[int, ...] = tuple(counts.tolist())
        width = max(self.lengths)
        # a stable sort brings the tokens to the front and keeps them in order
        self._order = (~self._mask).to(torch.uint8).argsort(dim=1, stable=True)[:, :width]
        self._filled = torch.arange(width, device=mask.device) < counts[:, None]

    def pack(self, x: Tensor) -> Tensor:
        """[B, T, ...] -> right-padded rows [B, max(lengths), ...]."""
        rows = torch.arange(x.shape[0], device=x.device)[:, None]
        return x[rows, self._order]

    def unpack(self, x: Tensor) -> Tensor:
        """[B, max(lengths), ...] -> [B, T, ...], zero where there is padding."""
        out = x.new_zeros(*self._mask.shape, *x.shape[2:])
        out[self._mask] = x[self._filled]
        return out
