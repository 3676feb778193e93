"""Projections whose matrix is stored in 8 or 4 bits; see ``QuantizationConfig``.

They have what ``Projection`` has but its ``weight``. The numbers are frozen parameters, so they
move between devices, are counted, and are found by name as any other; their types are kept.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from dynexit.errors import UserError
from dynexit.models import kernels
from dynexit.models.kernels import Matrix
from dynexit.models.narrow import linear
from dynexit.models.packing import unpack
from dynexit.models.projection import Prepared
from dynexit.models.quantization import RUN, QuantizationConfig, packed_runs

STORED = ("qweight", "scales", "zeros")  # parameters that keep the type they were saved in
_BLOCK = 8 << 20  # bytes of weights that are made floating point at a time on a CPU ...
_DEVICE_BLOCK = 256 << 20  # ... and where a call costs more than the memory
_FEW = 8  # tokens for which a product straight from int8 is the faster one
_INT8_RUN = 32  # columns that PyTorch's int8 product reads at a time, past a row's end if it must


class QuantizedProjection(nn.Module):
    """``x W' + b`` for ``x`` [..., in], with ``W`` [out, in] from fewer bytes."""

    qweight: nn.Parameter
    scales: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, in_features: int, out_features: int, bias: bool) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.register_parameter("bias", _frozen(out_features) if bias else None)
        self._prepared = Prepared()

    def forward(self, x: Tensor) -> Tensor:
        """All outputs [..., out]."""
        matrix = self.matrix(x)
        if matrix is None:
            return self.by_pytorch(x, 0, self.out_features, self.bias)
        return kernels.multiply(x, matrix)[0]

    def rows(self, x: Tensor, start: int, stop: int) -> Tensor:
        """Outputs ``start`` to ``stop`` alone [..., stop - start]; no other row is read."""
        part = self.part(x, start, stop)
        if part is None:
            bias = None if self.bias is None else self.bias[start:stop]
            return self.by_pytorch(x, start, stop, bias)
        return kernels.multiply(x, part)[0]

    def part(self, x: Tensor, start: int, stop: int) -> Matrix | None:
        """Rows ``start`` to ``stop`` as a matrix of their own, or None as ``matrix`` is."""
        if self.matrix(x) is None:
            return None
        stored = (getattr(self, name, None) for name in STORED)
        weight, scales, zeros = (None if part is None else part[start:stop] for part in stored)
        assert weight is not None
        bias = None if self.bias is None else self.bias[start:stop]
        return Matrix(weight, bias, scales, zeros)

    @abstractmethod
    def matrix(self, x: Tensor) -> Matrix | None:
        """The matrix as our own kernels take it, None where they can't multiply ``x`` with it."""

    def weight_bytes(self) -> int:
        """Bytes read to apply it."""
        stored = (getattr(self, name, None) for name in STORED)
        return sum(part.nbytes for part in stored if part is not None)

    @abstractmethod
    def dequantized(self, start: int, stop: int, dtype: torch.dtype) -> Tensor:
        """Rows ``start`` to ``stop`` of ``W`` [stop - start, in] in ``dtype``."""

    def by_pytorch(self, x: Tensor, start: int, stop: int, bias: Tensor | None) -> Tensor:
        """``x`` times those rows, plus ``bias``, by PyTorch; a block of rows at a time is made
        floating point."""
        block = _BLOCK if x.device.type == "cpu" else _DEVICE_BLOCK
        step = max(1, block // (self.in_features * x.element_size()))
        ends = [(begin, min(begin + step, stop)) for begin in range(start, stop, step)]
        parts = [self._dense(x, *rows) for rows in ends]
        y = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
        return y if bias is None else y.add_(bias)

    def _dense(self, x: Tensor, start: int, stop: int) -> Tensor:
        return linear(x, self.dequantized(start, stop, x.dtype))


class Int8Projection(QuantizedProjection):
    """``w = q * scale``: ``qweight`` [out, in] int8, ``scales`` [out]."""

    def __init__(self, in_features: int, out_features: int, bias: bool) -> None:
        super().__init__(in_features, out_features, bias)
        self.qweight = _frozen(out_features, in_features, dtype=torch.int8)
        self.scales = _frozen(out_features)

    def dequantized(self, start: int, stop: int, dtype: torch.dtype) -> Tensor:
        wide = torch.promote_types(dtype, self.scales.dtype)
        scales = self.scales[start:stop, None].to(wide)
        return (self.qweight[start:stop].to(wide) * scales).to(dtype)

    def matrix(self, x: Tensor) -> Matrix | None:
        weight = self.qweight
        if not kernels.usable(x, weight) or self.scales.dtype != torch.float32:
            return None
        return self._prepared.get(weight) or self._prepared.keep(
            Matrix(weight, self.bias, self.scales)
        )

    def by_pytorch(self, x: Tensor, start: int, stop: int, bias: Tensor | None) -> Tensor:
        numbers, scales = self.qweight[start:stop], self.scales[start:stop]
        if not _fits_pytorch(x):
            return super().by_pytorch(x, start, stop, bias)
        flat = x.reshape(-1, self.in_features)
        y = torch._weight_int8pack_mm(flat, numbers, scales.to(x.dtype))
        y = y.view(*x.shape[:-1], stop - start)
        return y if bias is None else y.add_(bias)

    def _dense(self, x: Tensor, start: int, stop: int) -> Tensor:
        if x.dtype == torch.float16:  # sums before scaling may be beyond what it holds
            return super()._dense(x, start, stop)
        y = linear(x, self.qweight[start:stop].to(x.dtype))  # exact in bf16
        return (y * self.scales[start:stop]).to(x.dtype)


def _fits_pytorch(x: Tensor) -> bool:
    """Whether PyTorch's product with int8 rows is right for ``x`` and the faster one."""
    return (
        x.device.type == "cpu"
        and x.shape[-1] % _INT8_RUN == 0
        and x.numel() <= _FEW * x.shape[-1]
        and x.element_size() == 2  # in fp32 it is slower than the dense product
        and not (x.requires_grad and torch.is_grad_enabled())
    )


class Int4Projection(QuantizedProjection):
    """``w = q * scale + zero``: ``qweight`` [out, 64 * ceil(in / 128)] uint8 as ``packing`` says,
    ``scales`` and ``zeros`` [out, in / group]."""

    zeros: nn.Parameter

    def __init__(self, in_features: int, out_features: int, bias: bool, group: int) -> None:
        super().__init__(in_features, out_features, bias)
        self.group, groups = group, in_features // group
        width = RUN // 2 * packed_runs(in_features)
        self.qweight = _frozen(out_features, width, dtype=torch.uint8)
        self.scales = _frozen(out_features, groups, dtype=torch.bfloat16)
        self.zeros = _frozen(out_features, groups, dtype=torch.bfloat16)

    def dequantized(self, start: int, stop: int, dtype: torch.dtype) -> Tensor:
        wide = torch.promote_types(dtype, torch.float32)
        scales, zeros = (t[start:stop, :, None].to(wide) for t in (self.scales, self.zeros))
        numbers = unpack(self.qweight[start:stop], self.in_features).to(wide)
        grouped = numbers.view(stop - start, -1, self.group)
        return grouped.mul_(scales).add_(zeros).view_as(numbers).to(dtype)

    def matrix(self, x: Tensor) -> Matrix | None:
        weight = self.qweight
        if not kernels.usable(x, weight):
            return None
        return self._prepared.get(weight) or self._prepared.keep(
            Matrix(weight, self.bias, self.scales, self.zeros)
        )


def quantized_like(projection: nn.Linear, config: QuantizationConfig) -> QuantizedProjection:
    """An empty projection of the same shape with the matrix stored as ``config`` says."""
    columns, rows = projection.in_features, projection.out_features
    bias, group = projection.bias is not None, config.group_of(columns)
    if group is None:
        raise UserError(
            f"config.json: quantization_config: a matrix of {columns} columns has no groups of "
            f"{config.group} or less; fetch the files of one checkpoint"
        )
    if config.bits == 8:
        return Int8Projection(columns, rows, bias)
    return Int4Projection(columns, rows, bias, group)


def _frozen(*shape: int, dtype: torch.dtype | None = None) -> nn.Parameter:
    return nn.Parameter(torch.empty(shape, dtype=dtype), requires_grad=False)
