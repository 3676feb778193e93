"""Translators: the identity at first, then h + W h + b."""

import torch

from dynexit.exits.translator import Translators


def test_starts_as_the_identity() -> None:
    hidden = torch.randn(2, 3, 8)
    assert torch.equal(Translators((2, 4), 8).apply(1, hidden), hidden)


def test_affine_per_exit_in_the_type_of_the_hidden_state() -> None:
    translators = Translators((2, 4), 3)
    with torch.no_grad():
        translators.maps[1].weight[0, 2] = 2.0
        translators.maps[1].bias[1] = -1.0
    hidden = torch.tensor([1.0, 2.0, 3.0], dtype=torch.bfloat16)
    got = translators.apply(1, hidden)
    assert got.tolist() == [7.0, 1.0, 3.0]
    assert got.dtype == torch.bfloat16
    assert translators.apply(0, hidden).tolist() == [1.0, 2.0, 3.0]
    assert translators.flops() == 18
