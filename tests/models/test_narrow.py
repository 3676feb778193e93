"""Products in bf16 and fp16 on a CPU without instructions for them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from dynexit.models import narrow


@pytest.fixture(params=[True, False], ids=["slow", "fast"])
def _device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = frozenset((torch.bfloat16, torch.float16)) if request.param else frozenset()
    monkeypatch.setattr(narrow, "_slow_types", lambda: slow)


@pytest.mark.usefixtures("_device")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("tokens", [(1,), (3, 5), (2, 37), (300,), (0,)])
@pytest.mark.parametrize("has_bias", [True, False])
def test_the_product_is_that_of_fp32_rounded(
    dtype: torch.dtype, tokens: tuple[int, ...], has_bias: bool
) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(*tokens, 96).to(dtype), (torch.randn(130, 96) / 10).to(dtype)
    bias = torch.randn(130).to(dtype) if has_bias else None
    with torch.no_grad():
        found = narrow.linear(x, weight, bias)
    exact = F.linear(x.double(), weight.double(), None if bias is None else bias.double())
    assert found.dtype == dtype
    assert found.shape == exact.shape
    # PyTorch's own product in fp16 may be rounded before the bias is added
    tolerance = max(1e-5, 4 * torch.finfo(dtype).eps)
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=tolerance)


@given(rows=st.integers(1, 50), cols=st.integers(1, 50), block=st.integers(1, 600))
def test_blocks_of_rows_cover_the_matrix(rows: int, cols: int, block: int) -> None:
    torch.manual_seed(rows)
    x, weight = torch.randn(5, cols).bfloat16(), torch.randn(rows, cols).bfloat16()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(narrow, "_BLOCK", block)
        found = narrow._widened(x, weight, None)
    exact = F.linear(x.double(), weight.double())
    torch.testing.assert_close(found.double(), exact, rtol=2**-7, atol=1e-5)


def test_gradients_are_pytorchs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(narrow, "_slow_types", lambda: frozenset((torch.bfloat16,)))
    x = torch.randn(4, 8).bfloat16().requires_grad_()
    weight = torch.randn(3, 8).bfloat16()
    narrow.linear(x, weight).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, weight.sum(0).expand(4, 8))
