"""Packing of numbers of four bits: the order that is documented, and back."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from dynexit.models.packing import pack, unpack


def numbers(rows: int, columns: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 16, (rows, columns), dtype=torch.uint8, generator=generator)


@given(rows=st.integers(1, 5), columns=st.integers(1, 400), seed=st.integers(0, 1000))
def test_round_trip(rows: int, columns: int, seed: int) -> None:
    given_ = numbers(rows, columns, seed)
    packed = pack(given_)
    assert packed.dtype == torch.uint8
    assert packed.shape == (rows, 64 * -(-columns // 128))
    assert torch.equal(unpack(packed, columns), given_)


@given(columns=st.integers(1, 300), seed=st.integers(0, 1000))
def test_where_a_column_is_in_its_word(columns: int, seed: int) -> None:
    given_ = numbers(1, columns, seed)
    raw = bytes(pack(given_)[0].tolist())
    for column, number in enumerate(given_[0].tolist()):
        run, inside = divmod(column, 128)
        block, (j, odd) = inside // 32, divmod(inside % 32, 2)
        word = int.from_bytes(raw[64 * run + 4 * j :][:4], "little")
        assert (word >> (4 * (block + 4 * odd))) & 15 == number


def test_beyond_the_last_column_are_zeros() -> None:
    packed = pack(torch.full((2, 130), 15, dtype=torch.uint8))
    filled = unpack(packed, 256)
    assert filled[:, :130].eq(15).all()
    assert filled[:, 130:].eq(0).all()
