"""A matrix applied to hidden states: what nearly all bytes of a model belong to."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from dynexit.models import kernels
from dynexit.models.kernels import Matrix
from dynexit.models.narrow import linear


class Prepared:
    """The matrix of one projection as the kernels take it, made once for as long as its weights
    stay where they are. It does not go along when the projection is copied."""

    def __init__(self) -> None:
        self._matrix: Matrix | None = None

    def get(self, weight: Tensor) -> Matrix | None:
        kept = self._matrix
        return kept if kept is not None and kept.address == weight.data_ptr() else None

    def keep(self, matrix: Matrix) -> Matrix:
        self._matrix = matrix
        return matrix

    def __deepcopy__(self, memo: object) -> Prepared:
        return Prepared()

    def __reduce__(self) -> tuple[type[Prepared], tuple[()]]:
        return Prepared, ()


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

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_features, out_features, bias, device, dtype)
        self._prepared = Prepared()

    def forward(self, x: Tensor) -> Tensor:
        matrix = self.matrix(x)
        if matrix is None:
            return linear(x, self.weight, self.bias)
        return kernels.multiply(x, matrix)[0]

    def matrix(self, x: Tensor) -> Matrix | None:
        """The matrix as our own kernels take it, None where they can't multiply ``x`` with it."""
        weight = self.weight
        if x.dtype != weight.dtype or not kernels.usable(x, weight):
            return None
        return self._prepared.get(weight) or self._prepared.keep(Matrix(weight, self.bias))

    def part(self, x: Tensor, start: int, stop: int) -> Matrix | None:
        """Rows ``start`` to ``stop`` as a matrix of their own, or None as ``matrix`` is."""
        if self.matrix(x) is None:
            return None
        bias = None if self.bias is None else self.bias[start:stop]
        return Matrix(self.weight[start:stop], bias)

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
    return linear(x, weight, bias)


def together(x: Tensor, *projections: Multiplies) -> list[Tensor]:
    """The outputs of several projections of the same ``x``, at once where our own kernels can."""
    matrices = [projection.matrix(x) for projection in projections]
    usable = [matrix for matrix in matrices if matrix is not None]
    if len(usable) == len(matrices):
        return kernels.multiply(x, *usable)
    return [projection(x) for projection in projections]
