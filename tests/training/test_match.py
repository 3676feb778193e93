"""In training an exit sees what it sees in decoding: the tokens that did not leave before."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dynexit.exits.judges import TRAINED_JUDGES, TrainedJudge, build_trained
from dynexit.models import Placement
from dynexit.training.match import visits
from dynexit.training.store import Batch
from exits.judging import evidence

HIDDEN, LAYERS = 8, (1, 2, 3)


def random_batch(lengths: list[int], prompts: list[int], seed: int) -> Batch:
    torch.manual_seed(seed)
    rows, width = len(lengths), max(lengths)
    columns = torch.arange(width)
    valid = columns < torch.tensor(lengths)[:, None]
    judged = valid & (columns >= torch.tensor(prompts)[:, None] - 1)
    hidden = torch.randn(len(LAYERS), rows, width, HIDDEN)
    ranks = torch.randint(0, 255, (len(LAYERS), rows, width), dtype=torch.uint8)
    return Batch(hidden, ranks, valid, judged)


def decode(
    judge: TrainedJudge, batch: Batch, row: int, threshold: float
) -> list[list[tuple[int, float]]]:
    """Rank and score of each token of a row at each exit it comes to, token by token."""
    found: list[list[tuple[int, float]]] = [[] for _ in LAYERS]
    state = judge.new_state(1)
    prompt = int(batch.judged[row].int().argmax())
    with torch.inference_mode():
        if prompt:
            for exit in range(len(LAYERS)):
                place = Placement([0], [prompt])
                judge.observe(exit, batch.hidden[exit, row : row + 1, :prompt], state, place)
        for t in range(prompt, int(batch.valid[row].sum())):
            for exit in range(len(LAYERS)):
                hidden = batch.hidden[exit, row, t][None]
                score = float(judge.score(exit, evidence(hidden), state, None))
                found[exit].append((int(batch.ranks[exit, row, t]), score))
                if score >= threshold:
                    break
    return found


@settings(max_examples=20, deadline=None)
@given(
    kind=st.sampled_from(TRAINED_JUDGES),
    shapes=st.lists(st.tuples(st.integers(1, 5), st.integers(0, 7)), min_size=1, max_size=4),
    limit=st.sampled_from([0.3, 0.5, 0.6]),
    seed=st.integers(0, 50),
)
def test_training_sees_what_decoding_sees(
    kind: str, shapes: list[tuple[int, int]], limit: float, seed: int
) -> None:
    prompts = [prompt for prompt, _ in shapes]
    batch = random_batch([prompt + more for prompt, more in shapes], prompts, seed)
    judge = build_trained(kind, LAYERS, HIDDEN)
    limits = limit + 0.01 * torch.arange(len(prompts))[:, None].expand(-1, len(LAYERS))
    decoded = [decode(judge, batch, row, float(limits[row, 0])) for row in range(len(prompts))]
    got: list[list[tuple[int, float]]] = [[] for _ in LAYERS]
    for visit in visits(judge, batch, limits):
        scores = visit.logits.sigmoid().tolist()
        got[visit.exit] = list(zip(visit.ranks.tolist(), scores, strict=True))
    for exit in range(len(LAYERS)):
        expected = [pair for row in decoded for pair in row[exit]]
        assert [rank for rank, _ in got[exit]] == [rank for rank, _ in expected]
        assert [s for _, s in got[exit]] == pytest.approx([s for _, s in expected], abs=1e-4)


@pytest.mark.parametrize("kind", TRAINED_JUDGES)
def test_without_thresholds_every_exit_sees_everything(kind: str) -> None:
    batch = random_batch([5, 9, 3], [2, 4, 3], 0)
    judge = build_trained(kind, LAYERS, HIDDEN)
    seen = list(visits(judge, batch, None))
    assert [visit.exit for visit in seen] == [0, 1, 2]
    for visit in seen:
        assert visit.ranks.tolist() == batch.ranks[visit.exit][batch.judged].tolist()


def test_when_all_left_later_exits_are_not_visited() -> None:
    batch = random_batch([5, 9], [2, 4], 0)
    judge = build_trained("mamba", LAYERS, HIDDEN)
    assert len(list(visits(judge, batch, torch.zeros(2, 3)))) == 1
