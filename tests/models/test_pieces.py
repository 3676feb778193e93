"""A short prompt goes through small layers in pieces, and leaves what its tokens alone would."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dynexit.models import kernels, load_backbone
from dynexit.models.pieces import Pieces
from dynexit.models.placement import Placement
from dynexit.reference.pair import reference_directory


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["mistral", "mamba2"])
@pytest.mark.parametrize(
    ("lengths", "rows"),
    [([21], None), ([70], [1]), ([3, 17, 1, 9], None), ([40, 2, 33], [3, 0, 1]), ([9, 9], [2, 1])],
)
def test_prompts_in_pieces_have_the_bits_of_their_tokens(
    name: str,
    dtype: torch.dtype,
    lengths: list[int],
    rows: list[int] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dynexit.models.backbone._PIECEWISE", 1 << 40)
    backbone = load_backbone(reference_directory(name), dtype)
    count = len(lengths) if rows is None else 4
    whole, steps = backbone.new_cache(count, 80), backbone.new_cache(count, 80)
    place = backbone.place([0] * len(lengths), lengths, rows)
    ids = torch.randint(300, 3000, (len(lengths), place.width), generator=seeded(0))
    with torch.inference_mode():
        hidden = backbone.embed(ids)
        if not kernels.usable(hidden[:1, :1], hidden[:1, :1]):
            pytest.skip("needs a C compiler")
        at_once = len(lengths) * place.width <= kernels.most_tokens(dtype)
        assert (backbone._pieces(hidden, whole, 0, backbone.depth, place) is None) == at_once
        together = backbone.run(hidden, whole, 0, backbone.depth, place)
        for b, row in enumerate(range(count) if rows is None else rows):
            for at in range(lengths[b]):
                token, one = hidden[b : b + 1, at : at + 1], backbone.place([at], [1], [row])
                alone = backbone.run(token, steps, 0, backbone.depth, one)
                assert torch.equal(together[b, at], alone[0, 0])
            assert at_once or not together[b, lengths[b] :].any()
    for state, other in zip(whole.states, steps.states, strict=True):
        assert state is not None
        assert other is not None
        for left, right in zip(state.tensors(), other.tensors(), strict=True):
            assert torch.equal(left, right)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=6),
    most=st.integers(1, 16),
    data=st.data(),
)
def test_pieces_hold_every_token_once(lengths: list[int], most: int, data: st.DataObject) -> None:
    size = st.integers(0, 50)
    starts = data.draw(st.lists(size, min_size=len(lengths), max_size=len(lengths)))
    place = Placement(starts, lengths)
    pieces = Pieces(place, most)
    columns = (
        torch.randn(len(lengths), place.width, 3, generator=seeded(1)) * place.valid[..., None]
    )
    parts = pieces.split(columns)
    assert torch.equal(pieces.join(parts), columns)
    seen: dict[int, list[int]] = {}
    for part, at in zip(parts, pieces.places, strict=True):
        assert part.shape == (1, sum(at.lengths), 3)
        assert at.span.firsts.tolist()[-1] == at.span.tokens == part.shape[1] <= most
        for row, start, count in zip(at.numbers or [0], at.starts, at.lengths, strict=True):
            seen.setdefault(row, []).extend(range(start, start + count))
    for row, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        assert seen[row] == list(range(start, start + length))


@pytest.mark.parametrize(("length", "count"), [(1, 1), (8, 1), (9, 2), (21, 3)])
def test_pieces_of_a_placement(length: int, count: int) -> None:
    backbone = load_backbone(reference_directory("mamba2"))
    pieces = backbone.place([5], [length], [2]).pieces(8)
    assert len(pieces) == count
    assert [piece.starts[0] for piece in pieces] == [5 + 8 * i for i in range(count)]
    assert sum(piece.lengths[0] for piece in pieces) == length
    assert {piece.numbers for piece in pieces} == {(2,)}
