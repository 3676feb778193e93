"""A matrix applied to hidden states: what nearly all bytes of a model belong to."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from dynexit.models import kernels


class Projection(nn.Linear):
    """``x W' + b`` for ``x`` [..., in]; ``W`` is [out, in] under the name ``weight``.

    Every projection of a backbone is one of these (or ``QuantizedProjection``, which computes the
    same from fewer bytes), so that how a matrix is stored and multiplied is decided in one place.
    """

    def forward(self, x: Tensor) -> Tensor:
        return apply(x, self.weight, self.bias)

    def rows(self, x: Tensor, start: int, stop: int) -> Tensor:
        """Outputs ``start`` to ``stop`` alone [..., stop - start]; no other row is read."""
        bias = None if self.bias is None else self.bias[start:stop]
        return apply(x, self.weight[start:stop], bias)

    def weight_bytes(self) -> int:
        """Bytes read to apply it."""
        return self.weight.nbytes


def apply(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``x`` [..., in] times ``weight`` [out, in], plus ``bias`` [out]."""
    if x.dtype == weight.dtype and kernels.usable(x, weight):
        return kernels.product(x, weight, bias)
    return F.linear(x, weight, bias)
