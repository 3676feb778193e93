"""Products of int8 and int4 with hidden states in bf16, which are made whole numbers for them."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dynexit.models import kernels
from dynexit.models.kernels import Matrix, multiply
from dynexit.models.kernels.build import tiled
from dynexit.models.packing import pack

pytestmark = pytest.mark.skipif(kernels.library() is None, reason="no C compiler")
WHOLE = kernels.MOST_TOKENS if tiled() else 20  # tokens that go through whole numbers at once
BF16 = 2.0**-8  # what rounding to bf16 changes at most, as a share


def eight_bits(rows: int, cols: int) -> tuple[Matrix, Tensor]:
    """A matrix of int8 as the kernels take it, and in fp64."""
    numbers = torch.randint(-127, 128, (rows, cols), dtype=torch.int8)
    scales = torch.rand(rows) + 0.1
    return Matrix(numbers, None, scales), numbers.double() * scales.double()[:, None]


def four_bits(rows: int, cols: int, group: int) -> tuple[Matrix, Tensor]:
    """The same of int4."""
    numbers = torch.randint(0, 16, (rows, cols), dtype=torch.uint8)
    scales = (torch.rand(rows, cols // group) + 0.1).bfloat16()
    zeros = -8 * scales
    wide = numbers.double().reshape(rows, -1, group) * scales.double()[..., None]
    exact = (wide + zeros.double()[..., None]).reshape(rows, cols)
    return Matrix(pack(numbers), None, scales, zeros), exact


def states(tokens: int, cols: int, outlier: float) -> Tensor:
    """Hidden states of which every 50th number is so much larger."""
    x = torch.randn(tokens, cols)
    x[:, ::50] *= outlier
    return x.bfloat16()


@given(
    st.integers(1, WHOLE),
    st.integers(1, 40),
    st.integers(1, 13),
    st.sampled_from([8, 128, 64, 32]),
    st.sampled_from([1.0, 1000.0]),
    st.integers(0, 99),
)
@settings(deadline=None, max_examples=150)
def test_a_result_is_off_by_less_than_its_own_rounding(
    tokens: int, rows: int, blocks: int, kind: int, outlier: float, seed: int
) -> None:
    torch.manual_seed(seed)
    if kind == 8:
        cols = 32 * blocks + seed % 32
        matrix, exact = eight_bits(rows, cols)
    else:
        cols = kind * blocks
        matrix, exact = four_bits(rows, cols, kind)
    x = states(tokens, cols, outlier)
    with torch.inference_mode():
        made = multiply(x, matrix)[0]
    expected = x.double() @ exact.T
    # a whole number is off by up to half of 1/32639 of the largest, 0.3 of it in the mean square:
    # this is seven standard deviations, and less than bf16 had rounded the largest by
    size = (x.double().abs().amax(-1, keepdim=True) * exact.norm(dim=-1)) * 2.0**-14
    assert ((made.double() - expected).abs() <= expected.abs() * BF16 + size).all()
    with torch.inference_mode():
        alone = torch.cat([multiply(x[t : t + 1], matrix)[0] for t in range(tokens)])
    assert torch.equal(alone, made)


@given(
    st.integers(kernels.MOST_TOKENS + 1, 150),
    st.integers(1, 40),
    st.integers(1, 13),
    st.sampled_from([8, 128, 64, 32]),
    st.integers(0, 99),
)
@settings(deadline=None, max_examples=100)
def test_many_tokens(tokens: int, rows: int, blocks: int, kind: int, seed: int) -> None:
    """Where there is a matrix unit int4 becomes bf16 for them, as for PyTorch's products."""
    torch.manual_seed(seed)
    matrix, exact = (
        eight_bits(rows, 32 * blocks) if kind == 8 else four_bits(rows, kind * blocks, kind)
    )
    x = states(tokens, exact.shape[1], 1.0)
    with torch.inference_mode():
        made = multiply(x, matrix)[0].double()
    rounded = exact.bfloat16().double() if kind != 8 and tiled() else exact
    expected = x.double() @ rounded.T
    # a weight near the middle of two numbers of bf16 may become either
    allowed = expected.abs() * BF16 + (x.double().abs() @ exact.abs().T) * 2.0**-11
    assert ((made - expected).abs() <= allowed).all()


@pytest.mark.parametrize("outlier", [1.0, 1000.0])
def test_the_error_over_all_is_that_of_rounding(outlier: float) -> None:
    torch.manual_seed(1)
    matrix, exact = eight_bits(512, 4096)
    x = states(8, 4096, outlier)
    with torch.inference_mode():
        made = multiply(x, matrix)[0].double()
    expected = x.double() @ exact.T
    rounding = (expected.bfloat16().double() - expected).square().mean()
    assert (made - expected).square().mean() < 1.1 * rounding


@pytest.mark.parametrize("kind", [8, 4])
@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_stays_none(kind: int, wrong: float) -> None:
    matrix = (eight_bits(20, 256) if kind == 8 else four_bits(20, 256, 64))[0]
    x = states(3, 256, 1.0)
    x[1, 200] = wrong
    with torch.inference_mode():
        made = multiply(x, matrix)[0]
    assert made.isfinite().all(-1).tolist() == [True, False, True]


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e30])
def test_tiny_and_huge_states(size: float) -> None:
    matrix, exact = eight_bits(20, 256)
    x = (size * torch.ones(1, 256)).bfloat16()
    with torch.inference_mode():
        made = multiply(x, matrix)[0].double()
    assert torch.allclose(made, x.double() @ exact.T, rtol=BF16, atol=0.0)
