"""Matrix-vector products in each dtype, by PyTorch and by this package's own projections.

fp32 and bf16 are plain; int8 is symmetric per row and int4 asymmetric in groups of 128 columns, as
``dynexit quantize`` writes them and as PyTorch's own kernels take them.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynexit.models.backbone import Backbone
from dynexit.models.config import BackboneConfig
from dynexit.models.projection import Projection
from dynexit.models.quantization import QuantizationConfig
from dynexit.models.quantized import QuantizedProjection, quantized_like

DTYPES = ("fp32", "bf16", "int8", "int4")
GROUP = 128  # columns with one scale
_PLAIN = {"fp32": torch.float32, "bf16": torch.bfloat16}

Shape = tuple[int, int]  # outputs, inputs
Made = TypeVar("Made")


@dataclass(frozen=True)
class Multiply:
    """Several matrices, each with the same vector in turn: called, it computes all products.
    ``nbytes`` are those of all matrices with their scales."""

    products: tuple[Callable[[Tensor], Tensor], ...]
    vector: Tensor
    nbytes: int

    def __call__(self) -> None:
        for product in self.products:
            product(self.vector)


def biggest_shape(config: BackboneConfig) -> Shape:
    """Outputs and inputs of the biggest matrix in a layer, where nearly all bytes are."""
    with torch.device("meta"):
        backbone = Backbone(config)
    shapes = [
        (part.out_features, part.in_features)
        for block in backbone.blocks()
        for part in block.modules()
        if isinstance(part, Projection | QuantizedProjection)
    ]
    return max(shapes, key=lambda shape: shape[0] * shape[1])


def by_torch(dtype: str, shape: Shape, nbytes: int) -> Multiply | None:
    """PyTorch's product; None where this build has none for the dtype or shape."""
    if dtype in _PLAIN:
        first = _random(shape, _PLAIN[dtype])
        weights = _repeated(first, first.nbytes, nbytes)
        products = tuple(_linear(weight) for weight in weights)
        return Multiply(products, _vector(shape, _PLAIN[dtype]), sum(w.nbytes for w in weights))
    made = _int8_torch(shape, nbytes) if dtype == "int8" else _int4_torch(shape, nbytes)
    return made if made is not None and _works(made) else None


def by_projection(dtype: str, shape: Shape, nbytes: int) -> Multiply | None:
    """The product of this package's projections; None where the shape cannot be stored so."""
    out, inputs = shape
    plain = Projection(inputs, out, bias=False)
    plain.weight = _frozen(_random(shape, _PLAIN.get(dtype, torch.bfloat16)))
    made: Projection | QuantizedProjection = plain
    if dtype not in _PLAIN:
        config = QuantizationConfig(8 if dtype == "int8" else 4, GROUP)
        if config.group_of(inputs) is None:
            return None
        made = _quantized(plain, config)
    all_of_them = _repeated(made, made.weight_bytes(), nbytes)
    vector = _vector(shape, plain.weight.dtype)[None]  # [1, 1, inputs], as in decoding
    size = sum(projection.weight_bytes() for projection in all_of_them)
    return Multiply(tuple(all_of_them), vector, size)


def _quantized(plain: Projection, config: QuantizationConfig) -> QuantizedProjection:
    """A quantised projection with random numbers in the place of weights."""
    made = quantized_like(plain, config)
    for name, stored in made.named_parameters():
        filled = torch.full_like(stored, 1e-3)
        if name == "qweight":
            filled = torch.randint(0, 127, stored.shape, dtype=stored.dtype)
        setattr(made, name, _frozen(filled))
    return made


MAKERS: dict[str, Callable[[str, Shape, int], Multiply | None]] = {
    "torch": by_torch,
    "dynexit": by_projection,
}


def _int8_torch(shape: Shape, nbytes: int) -> Multiply | None:
    kernel = getattr(torch, "_weight_int8pack_mm", None)
    if kernel is None:
        return None
    first = torch.randint(-127, 128, shape, dtype=torch.int8)
    weights = _repeated(first, first.nbytes, nbytes)
    scales = torch.full((shape[0],), 1e-3, dtype=torch.bfloat16)
    products = tuple(lambda x, w=w: kernel(x, w, scales) for w in weights)
    size = sum(w.nbytes + scales.nbytes for w in weights)
    return Multiply(products, _vector(shape, torch.bfloat16), size)


def _int4_torch(shape: Shape, nbytes: int) -> Multiply | None:
    kernel = getattr(torch, "_weight_int4pack_mm_for_cpu", None)
    pack = getattr(torch, "_convert_weight_to_int4pack_for_cpu", None)
    out, inputs = shape
    if kernel is None or pack is None or inputs % GROUP or out % 16:
        return None
    first = pack(torch.randint(0, 16, shape, dtype=torch.int32), 1)
    weights = _repeated(first, first.nbytes, nbytes)
    scales = torch.full((inputs // GROUP, out, 2), 1e-3, dtype=torch.bfloat16)
    products = tuple(lambda x, w=w: kernel(x, w, GROUP, scales) for w in weights)
    size = sum(w.nbytes + scales.nbytes for w in weights)
    return Multiply(products, _vector(shape, torch.bfloat16), size)


def _linear(weight: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda x: F.linear(x, weight)


def _works(multiply: Multiply) -> bool:
    """Whether this processor has the kernel; PyTorch says so only when it is called."""
    try:
        multiply()
    except (RuntimeError, NotImplementedError):
        return False
    return True


def _repeated(first: Made, size: int, nbytes: int) -> list[Made]:
    """One of ``size`` bytes and copies of it, which have about ``nbytes`` together."""
    return [first, *(deepcopy(first) for _ in range(nbytes // size - 1))]


def _frozen(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)


def _random(shape: Shape, dtype: torch.dtype) -> Tensor:
    return torch.randn(shape).to(dtype)


def _vector(shape: Shape, dtype: torch.dtype) -> Tensor:
    return torch.randn(1, shape[1]).to(dtype)
