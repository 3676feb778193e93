"""Translators from an exit layer's basis to the last layer's, applied before the readout there.

The tuned lens (Belrose et al. 2023, section 3): per exit an affine map ``h + W h + b``, fitted so
that the readout of the translated state matches that of the last layer. It starts as the identity.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Translator(nn.Module):
    """``h + W h + b`` for one exit; W [hidden, hidden] and b [hidden] start at zero."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(hidden, hidden))
        self.bias = nn.Parameter(torch.zeros(hidden))

    def forward(self, hidden: Tensor) -> Tensor:
        """[..., hidden] -> the same shape and type."""
        return hidden + F.linear(hidden.to(self.weight.dtype), self.weight, self.bias).to(
            hidden.dtype
        )


class Translators(nn.Module):
    """One translator per exit layer, in the order of ``layers`` (which count from 1)."""

    def __init__(self, layers: Sequence[int], hidden: int) -> None:
        super().__init__()
        self.layers = tuple(layers)
        self.hidden = hidden
        self.maps = nn.ModuleList(Translator(hidden) for _ in self.layers)

    def apply(self, exit: int, hidden: Tensor) -> Tensor:  # type: ignore[override]
        """Hidden states [..., hidden] of exit number ``exit`` (from 0), ready for the readout."""
        return self.maps[exit](hidden)  # type: ignore[no-any-return]

    def flops(self) -> int:
        """Floating point operations of one translation: two per weight."""
        return 2 * self.hidden * self.hidden

    def weight_bytes(self) -> int:
        """Bytes of weights that one translation reads."""
        return sum(parameter.nbytes for parameter in self.parameters()) // len(self.layers)
