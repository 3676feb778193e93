"""A short prompt goes through small layers in pieces, and leaves what its tokens alone would."""

from __future__ import annotations

import pytest
import torch

from dynexit.models import kernels, load_backbone
from dynexit.reference.pair import reference_directory


@pytest.mark.parametrize("name", ["mistral", "mamba2"])
def test_a_prompt_in_pieces_has_the_bits_of_its_tokens(name: str) -> None:
    backbone = load_backbone(reference_directory(name))
    ids = torch.randint(300, 3000, (1, 21), generator=torch.Generator().manual_seed(0))
    whole, steps = backbone.new_cache(1, 32), backbone.new_cache(1, 32)
    with torch.inference_mode():
        hidden = backbone.embed(ids)
        if not kernels.usable(hidden[:, :1], hidden[:, :1]):
            pytest.skip("needs a C compiler")
        together = backbone.run(hidden, whole, 0, backbone.depth, backbone.place([0], [21]))
        alone = []
        for at, token in enumerate(torch.split(hidden, 1, dim=1)):
            place = backbone.place([at], [1])
            alone.append(backbone.run(token, steps, 0, backbone.depth, place))
    assert torch.equal(together, torch.cat(alone, dim=1))
    for state, other in zip(whole.states, steps.states, strict=True):
        assert state is not None
        assert other is not None
        for left, right in zip(state.tensors(), other.tensors(), strict=True):
            assert torch.equal(left, right)


@pytest.mark.parametrize(("length", "count"), [(1, 1), (8, 1), (9, 2), (21, 3)])
def test_pieces_of_a_placement(length: int, count: int) -> None:
    backbone = load_backbone(reference_directory("mamba2"))
    pieces = backbone.place([5], [length], [2]).pieces(8)
    assert len(pieces) == count
    assert [piece.starts[0] for piece in pieces] == [5 + 8 * i for i in range(count)]
    assert sum(piece.lengths[0] for piece in pieces) == length
    assert {piece.numbers for piece in pieces} == {(2,)}
