"""Quantised projections compute what their dequantised matrices do."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
import torch.nn.functional as F

from dynexit.models.projection import Projection
from dynexit.models.quantization import QuantizationConfig
from dynexit.models.quantized import QuantizedProjection, quantized_like
from dynexit.models.rounding import round_matrix

CONFIGS = {
    "int8": QuantizationConfig(8),
    "int4-128": QuantizationConfig(4, 128),
    "int4-64": QuantizationConfig(4, 64),
    "int4-32": QuantizationConfig(4, 32),
}
KINDS = pytest.mark.parametrize("kind", CONFIGS)
# with gradients enabled no own kernel is used
WAYS = {"kernels": torch.inference_mode, "pytorch": nullcontext}


def projection(
    kind: str, columns: int = 256, rows: int = 40, bias: bool = True
) -> QuantizedProjection:
    """A random projection, quantised."""
    torch.manual_seed(columns)
    plain = Projection(columns, rows, bias=bias)
    module = quantized_like(plain, CONFIGS[kind])
    for name, part in round_matrix(plain.weight.detach(), CONFIGS[kind]).parts.items():
        getattr(module, name).data = part
    if module.bias is not None:
        module.bias.data = plain.bias.detach()
    return module


def way(name: str) -> AbstractContextManager[object]:
    return WAYS[name]()


@KINDS
@pytest.mark.parametrize("columns", [96, 224, 256, 160])
@pytest.mark.parametrize("tokens", [1, 3, 8, 20])
@pytest.mark.parametrize("how", WAYS)
def test_is_the_dequantised_product(kind: str, columns: int, tokens: int, how: str) -> None:
    module = projection(kind, columns)
    weight = module.dequantized(0, 40, torch.float32)
    x = torch.randn(2, tokens, columns)[:1]
    with way(how):
        found = module(x)
    expected = F.linear(x, weight, module.bias)
    assert found.shape == (1, tokens, 40)
    assert (found - expected).norm() <= 1e-4 * expected.norm()


@KINDS
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("tokens", [2, 30])
@pytest.mark.parametrize("how", WAYS)
def test_in_half_precision(kind: str, dtype: torch.dtype, tokens: int, how: str) -> None:
    module = projection(kind, bias=False)
    x = torch.randn(tokens, 256).to(dtype)
    with way(how):
        found = module(x)
    expected = F.linear(x.float(), module.dequantized(0, 40, torch.float32))
    assert found.dtype == dtype
    assert (found - expected).norm() <= 1e-2 * expected.norm()


@KINDS
@pytest.mark.parametrize(("start", "stop"), [(0, 40), (7, 23), (39, 40)])
@pytest.mark.parametrize("tokens", [1, 12])
@pytest.mark.parametrize("how", WAYS)
def test_rows_are_those_of_the_whole(
    kind: str, start: int, stop: int, tokens: int, how: str
) -> None:
    module, x = projection(kind), torch.randn(tokens, 256)
    with way(how):
        torch.testing.assert_close(
            module.rows(x, start, stop), module(x)[:, start:stop], rtol=1e-4, atol=1e-5
        )


@KINDS
def test_a_matrix_larger_than_a_block(kind: str) -> None:
    module, x = projection(kind, 4096, 700), torch.randn(9, 4096)
    assert 4 * 4096 * 700 > 8 << 20
    expected = F.linear(x, module.dequantized(0, 700, torch.float32), module.bias)
    torch.testing.assert_close(module(x), expected, rtol=1e-4, atol=1e-4)


@KINDS
@pytest.mark.parametrize("tokens", [1, 12])
def test_gradients_reach_the_input(kind: str, tokens: int) -> None:
    module, x = projection(kind), torch.randn(tokens, 256, requires_grad=True)
    module(x).sum().backward()
    expected = module.dequantized(0, 40, torch.float32).sum(0).expand(tokens, -1)
    assert x.grad is not None
    torch.testing.assert_close(x.grad, expected, rtol=1e-4, atol=1e-5)
    assert not any(p.requires_grad for p in module.parameters() if p is not module.bias)


@KINDS
def test_bytes_are_those_of_the_configuration(kind: str) -> None:
    module = projection(kind, 224)
    assert module.weight_bytes() == CONFIGS[kind].matrix_bytes(40, 224)


@KINDS
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu(kind: str) -> None:
    module, x = projection(kind), torch.randn(5, 256)
    expected = module(x)
    with torch.inference_mode():
        torch.testing.assert_close(
            module.to("cuda")(x.to("cuda")).cpu(), expected, rtol=1e-3, atol=1e-4
        )
