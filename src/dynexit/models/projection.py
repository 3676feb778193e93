"""A matrix applied to hidden states: what nearly all bytes of a model belong to."""

from __future__ import annotations

from typing import Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from dynexit.models import kernels
from dynexit.models.kernels import Matrix


class Multiplies(Protocol):
    """What stands for a matrix, however it is stored."""

    def __call__(self, x: Tensor) -> Tensor: ...

    def matrix(self, x: Tensor) -> Matrix | None:
        """The matrix as our own kernels take it, None where they can't multiply ``x`` with it."""
        ...


class Projection(nn.Linear):
    """``x W' + b`` for ``x`` [..., in]; ``W`` is [out, in] under the name ``weight``.

    Every projection of a backbone is one of these (or ``QuantizedProjection``, which computes the
    same from fewer bytes), so that how a matrix is stored and multiplied is decided in one place.
    """

    def forward(self, x: Tensor) -> Tensor:
        return apply(x, self.weight, self.bias)

    def matrix(self, x: Tensor) -> Matrix | None:
        """The matrix as our own kernels take it, None where they can't multiply ``x`` with it."""
        if x.dtype == self.weight.dtype and kernels.usable(x, self.weight):
            return Matrix(self.weight, self.bias)
        return None

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
        return kernels.multiply(x, Matrix(weight, bias))[0]
    return F.linear(x, weight, bias)


def together(x: Tensor, *projections: Multiplies) -> list[Tensor]:
    """The outputs of several projections of the same ``x``, at once where our own kernels can."""
    matrices = [projection.matrix(x) for projection in projections]
    usable = [matrix for matrix in matrices if matrix is not None]
    if len(usable) == len(matrices):
        return kernels.multiply(x, *usable)
    return [projection(x) for projection in projections]
