"""A matrix applied to hidden states: what nearly all bytes of a model belong to."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Projection(nn.Linear):
    """``x W' + b`` for ``x`` [..., in]; ``W`` is [out, in] under the name ``weight``.

    Every projection of a backbone is one of these (or ``QuantizedProjection``, which computes the
    same from fewer bytes), so that how a matrix is stored and multiplied is decided in one place.
    """

    def rows(self, x: Tensor, start: int, stop: int) -> Tensor:
        """Outputs ``start`` to ``stop`` alone [..., stop - start]; no other row is read."""
        bias = None if self.bias is None else self.bias[start:stop]
        return F.linear(x, self.weight[start:stop], bias)

    def weight_bytes(self) -> int:
        """Bytes read to apply it."""
        return self.weight.nbytes


def together(x: Tensor, *projections: Projection) -> tuple[Tensor, ...]:
    """The outputs of several projections of the same ``x``."""
    return tuple(projection(x) for projection in projections)
