"""The kernels of mamba-ssm and causal-conv1d give what our own functions give."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dynexit.models import Placement, RecurrentState, conv, cuda_kernels, selective, ssd

DEVICE = "cuda"
ROWS, HEADS, WIDTH, GROUPS, SIZE, CHANNELS, LENGTH = 3, 8, 64, 2, 128, 64, 75


def randn(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, device=DEVICE, dtype=dtype)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
    with torch.inference_mode():
        yield


def need(installed: bool, package: str) -> None:
    if not installed:
        pytest.skip(f"{package} is not installed")


def test_ssd_step_and_update() -> None:
    state = randn(ROWS, HEADS, WIDTH, SIZE)
    need(cuda_kernels.steps(state), "mamba-ssm")
    x, dt = randn(ROWS, HEADS, WIDTH), randn(ROWS, HEADS).exp()
    a, b, c = -randn(HEADS).exp(), randn(ROWS, GROUPS, SIZE), randn(ROWS, GROUPS, SIZE)
    ours, updated = state.clone(), state.clone()
    expected = ssd.ssd_step(ours, x, dt, a, b, c)
    torch.testing.assert_close(
        cuda_kernels.ssd_step(state, x, dt, a, b, c), expected, atol=1e-3, rtol=1e-4
    )
    cuda_kernels.ssd_update(updated, x, dt, a, b)
    torch.testing.assert_close(state, ours, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(updated, ours, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("fresh", [True, False])
def test_ssd_scan(fresh: bool) -> None:
    need(cuda_kernels.scans_ssd(randn(1, dtype=torch.bfloat16)), "mamba-ssm")
    x, dt = randn(ROWS, LENGTH, HEADS, WIDTH), torch.rand(ROWS, LENGTH, HEADS, device=DEVICE)
    dt[1, 50:] = 0.0  # padding
    a = -randn(HEADS).exp()
    b, c = randn(ROWS, LENGTH, GROUPS, SIZE), randn(ROWS, LENGTH, GROUPS, SIZE)
    state = None if fresh else randn(ROWS, HEADS, WIDTH, SIZE)
    expected = ssd.ssd_scan(x, dt, a, b, c, 64, state)
    got = cuda_kernels.ssd_scan(x, dt, a, b, c, 64, state)
    for one, other in zip(got, expected, strict=True):  # TF32 has 10 bits
        assert (one - other).norm() < 3e-3 * other.norm()


def test_selective_step_and_update() -> None:
    state = randn(ROWS, CHANNELS, 16)
    need(cuda_kernels.steps(state), "mamba-ssm")
    x, dt, a = randn(ROWS, CHANNELS), randn(ROWS, CHANNELS).exp(), -randn(CHANNELS, 16).exp()
    b, c = randn(ROWS, 16), randn(ROWS, 16)
    ours, updated = state.clone(), state.clone()
    expected = selective.selective_step(ours, x, dt, a, b, c)
    torch.testing.assert_close(
        cuda_kernels.selective_step(state, x, dt, a, b, c), expected, atol=1e-4, rtol=1e-4
    )
    cuda_kernels.selective_update(updated, x, dt, a, b)
    torch.testing.assert_close(state, ours, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(updated, ours, atol=1e-4, rtol=1e-4)


def test_selective_scan_goes_on_from_a_state() -> None:
    x, dt = randn(ROWS, LENGTH, CHANNELS), torch.rand(ROWS, LENGTH, CHANNELS, device=DEVICE)
    need(cuda_kernels.scans_selective(x), "mamba-ssm")
    a, state = -randn(CHANNELS, 16).exp(), randn(ROWS, CHANNELS, 16)
    b, c = randn(ROWS, LENGTH, 16), randn(ROWS, LENGTH, 16)
    expected, last = selective.selective_scan(x, dt, a, b, c, state)
    got, end = cuda_kernels.selective_scan(x, dt, a, b, c, state)
    torch.testing.assert_close(got, expected, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(end, last, atol=1e-3, rtol=1e-3)
    only = cuda_kernels.selective_state(x, dt, a, b, state)
    torch.testing.assert_close(only, last, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [None, [2, 0]])
@pytest.mark.parametrize("length", [1, 2, LENGTH])
@pytest.mark.parametrize("bias", [True, False])
def test_causal_conv(dtype: torch.dtype, rows: list[int] | None, length: int, bias: bool) -> None:
    batch = ROWS if rows is None else len(rows)
    # a part of a wider projection, as the mixers give it
    x = randn(batch, length, CHANNELS + 40, dtype=dtype)[..., 8 : 8 + CHANNELS]
    weight = randn(CHANNELS, 1, 4, dtype=dtype)
    shift = randn(CHANNELS, dtype=dtype) if bias else None
    place = Placement([5] * batch, [length] * batch, rows, DEVICE)
    ssm = torch.empty(0, device=DEVICE)
    ours = RecurrentState(randn(ROWS, 3, CHANNELS, dtype=dtype), ssm)
    theirs = RecurrentState(ours.conv.clone(), ssm)
    need(cuda_kernels.convolves(x, weight, ours, place), "causal-conv1d")
    expected = conv.causal_conv(x, weight, shift, ours, place)
    got = cuda_kernels.causal_conv(x, weight, shift, theirs, place)
    close = 1e-4 if dtype == torch.float32 else 5e-2
    torch.testing.assert_close(got, expected, atol=close, rtol=close)
    torch.testing.assert_close(theirs.conv, ours.conv)
