"""The shared judge has one block for all exits, and is told at which one it stands."""

import torch

from dynexit.exits.judges import build_trained
from dynexit.exits.judges.shared import SharedJudge

HIDDEN = 24


def shared(layers: tuple[int, ...]) -> SharedJudge:
    judge = build_trained("shared", layers, HIDDEN, options={"width": 16})
    assert isinstance(judge, SharedJudge)
    return judge


def test_more_exits_are_a_vector_more_each() -> None:
    sizes = [sum(p.numel() for p in shared(layers).parameters()) for layers in ((3,), (3, 5, 6))]
    assert sizes[1] - sizes[0] == 2 * (16 + 1)


def test_the_depth_is_an_input_inside_the_block() -> None:
    """Exits begin alike; a vector of an exit's own changes its scores by another amount for each
    state, and the others' not at all."""
    judge = shared((3, 5, 6))
    hidden = torch.randn(1, 7, HIDDEN).expand(3, -1, -1)
    with torch.inference_mode():
        before = judge.token_logits(hidden)
        torch.testing.assert_close(before[0], before[1])
        judge.depth[1, :-1] += torch.randn(16)
        after = judge.token_logits(hidden)
    assert (after[1] - before[1]).std() > 1e-3
    torch.testing.assert_close(after[[0, 2]], before[[0, 2]])
