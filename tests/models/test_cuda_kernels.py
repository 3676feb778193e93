"""What of the optional CUDA kernels can be tested without a GPU; the kernels: tests/gpu."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dynexit.models import Placement, RecurrentState, cuda_kernels
from dynexit.models.selective import selective_scan


@given(st.integers(1, 3), st.integers(1, 70), st.integers(1, 5), st.integers(1, 16), st.data())
@settings(max_examples=30, deadline=None)
def test_a_scan_from_nothing_goes_on_from_a_state(
    rows: int, length: int, width: int, size: int, data: st.DataObject
) -> None:
    """The tokens put before a scan bring the state back to the last bit, as any scan sees them."""
    torch.manual_seed(data.draw(st.integers(0, 2**31)))
    x, dt = torch.randn(rows, length, width), torch.rand(rows, length, width) * 2
    a = -torch.rand(width, size) * 100
    b, c = torch.randn(rows, length, size), torch.randn(rows, length, size)
    state = torch.randn(rows, width, size) * 10.0 ** data.draw(st.integers(-6, 6))
    nothing = torch.zeros_like(state)

    only = cuda_kernels.after(state, x[:, :0], dt[:, :0], b[:, :0], c[:, :0])
    assert torch.equal(selective_scan(only[0], only[1], a, only[2], only[3], nothing)[1], state)

    early = cuda_kernels.after(state, x, dt, b, c)
    y, last = selective_scan(early[0], early[1], a, early[2], early[3], nothing)
    expected, end = selective_scan(x, dt, a, b, c, state)
    torch.testing.assert_close(y[:, size:], expected)
    torch.testing.assert_close(last, end)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_a_cpu_none_is_used(dtype: torch.dtype) -> None:
    x = torch.zeros(2, 3, 8, dtype=dtype)
    state = RecurrentState(x, x)
    assert not cuda_kernels.steps(x)
    assert not cuda_kernels.scans_ssd(x)
    assert not cuda_kernels.scans_selective(x)
    weight = torch.zeros(8, 1, 4, dtype=dtype)
    assert not cuda_kernels.convolves(x, weight, state, Placement([0, 0], [3, 3]))
