"""Rounding to few bits: errors within a step, better than plain rounding, odd matrices."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dynexit.models.quantization import QuantizationConfig
from dynexit.models.quantized import Int4Projection, Int8Projection
from dynexit.models.rounding import Rounded, round_matrix


def matrix(rows: int, columns: int, seed: int = 0, heavy: bool = False) -> Tensor:
    """Normal weights; ``heavy`` ones have a few far outside."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=generator)
    return weight**3 if heavy else weight


def restored(rounded: Rounded, rows: int, columns: int, config: QuantizationConfig) -> Tensor:
    """What stored parts stand for, by the modules that compute with them."""
    group = config.group_of(columns)
    assert group is not None
    module: Int4Projection | Int8Projection = (
        Int8Projection(columns, rows, False)
        if config.bits == 8
        else Int4Projection(columns, rows, False, group)
    )
    for name, part in rounded.parts.items():
        assert getattr(module, name).shape == part.shape
        assert getattr(module, name).dtype == part.dtype
        getattr(module, name).data = part
    return module.dequantized(0, rows, torch.float32)


def plain(weight: Tensor, config: QuantizationConfig) -> Tensor:
    """Rounding to nearest over the whole range."""
    if config.bits == 8:
        scale = weight.abs().amax(1, keepdim=True) / 127
        return (weight / scale).round() * scale
    grouped = weight.view(len(weight), -1, config.group)
    low, high = grouped.amin(-1, keepdim=True), grouped.amax(-1, keepdim=True)
    scale = (high - low) / 15
    return (((grouped - low) / scale).round() * scale + low).view_as(weight)


@given(
    bits=st.sampled_from([4, 8]),
    group=st.sampled_from([32, 64, 128]),
    runs=st.integers(1, 9),
    seed=st.integers(0, 1000),
)
def test_reported_error_is_that_of_what_is_stored(
    bits: int, group: int, runs: int, seed: int
) -> None:
    config, columns = QuantizationConfig(bits, group), 32 * runs
    weight = matrix(6, columns, seed)
    rounded = round_matrix(weight, config)
    off = restored(rounded, 6, columns, config) - weight
    assert rounded.error == pytest.approx(float(off.norm() / weight.norm()), rel=1e-3)
    assert rounded.error < (0.012 if bits == 8 else 0.13)


@pytest.mark.parametrize("heavy", [False, True])
@pytest.mark.parametrize(("bits", "group"), [(8, 128), (4, 128), (4, 64), (4, 32)])
def test_error_is_below_that_of_plain_rounding(bits: int, group: int, heavy: bool) -> None:
    config, weight = QuantizationConfig(bits, group), matrix(64, 512, heavy=heavy)
    error = round_matrix(weight, config).error
    unclipped = float((plain(weight, config) - weight).norm() / weight.norm())
    assert error < (unclipped if bits == 8 else 0.95 * unclipped)


def test_smaller_groups_are_more_exact() -> None:
    weight = matrix(32, 256)
    errors = [round_matrix(weight, QuantizationConfig(4, group)).error for group in (128, 64, 32)]
    assert errors == sorted(errors, reverse=True)


def test_rows_do_not_depend_on_each_other() -> None:
    config, weight = QuantizationConfig(4), matrix(8200, 128)  # more than is rounded at a time
    whole = round_matrix(weight, config).parts
    part = round_matrix(weight[8195:], config).parts
    assert all(torch.equal(whole[name][8195:], part[name]) for name in part)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("value", [0.0, 0.5, -3.0])
def test_equal_weights_are_exact(bits: int, value: float) -> None:
    config, weight = QuantizationConfig(bits), torch.full((3, 128), value)
    found = restored(round_matrix(weight, config), 3, 128, config)
    torch.testing.assert_close(found, weight, rtol=1e-5, atol=0.0)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(bits: int, bad: float) -> None:
    weight = matrix(3, 128)
    weight[1, 7] = bad
    with pytest.raises(ValueError, match="not finite"):
        round_matrix(weight, QuantizationConfig(bits))


@pytest.mark.parametrize(
    ("columns", "group", "expected"),
    [
        (256, 128, 128),
        (224, 128, 32),
        (192, 128, 64),
        (256, 64, 64),
        (256, 32, 32),
        (48, 128, None),
    ],
)
def test_largest_group_that_divides(columns: int, group: int, expected: int | None) -> None:
    assert QuantizationConfig(4, group).group_of(columns) == expected
