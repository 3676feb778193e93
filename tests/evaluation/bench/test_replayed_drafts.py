"""Drafts of one model in another: they leave, stand and fall where they did."""

from __future__ import annotations

from pathlib import Path

import pytest

from dynexit.evaluation.bench.drafting import Decoded, decode_plainly, decode_with_drafts
from dynexit.evaluation.bench.identity import identity_after
from dynexit.evaluation.bench.replayed_drafts import Replay, Trace, replaying, scaled, traces
from dynexit.evaluation.runner import answer_in_batches
from dynexit.evaluation.tasks.reference import reference_tasks
from dynexit.exits.choice import Wish, choose
from dynexit.inference.speculative.settings import Lossless
from dynexit.models import load_model
from evaluation.bench.quick import tiny

TEXT = [1, 2, 3, 4, 5]
ALWAYS = Lossless(adapt=False)


def replayed(tmp_path: Path, kind: str, trace: Trace) -> tuple[Decoded, Decoded]:
    """The same text plainly and with drafts at layers 1 and 2."""
    subject, replay = tiny(tmp_path, kind), Replay()
    policy = replaying(subject, "mamba", (1, 2), replay)
    backbone, tokens = identity_after(subject.backbone, 1), len(trace.exits)
    drafted = decode_with_drafts(
        backbone, policy, ALWAYS, TEXT, tokens, ready=lambda s: replay.follow(trace, s)
    )
    return decode_plainly(backbone, TEXT, tokens), drafted


@pytest.mark.parametrize("kind", ["mistral", "mamba2"])
def test_right_drafts_stand(tmp_path: Path, kind: str) -> None:
    plain, drafted = replayed(tmp_path, kind, Trace((0, 1, 2, 0, 0, 2, 1), (True,) * 7))
    assert drafted.ids == plain.ids
    # the token that stays verifies the two before it, and so does the last of a text
    assert (drafted.drafts, drafted.accepted) == (4, 4)


@pytest.mark.parametrize("kind", ["mistral", "mamba2"])
def test_a_wrong_draft_falls_with_those_after_it(tmp_path: Path, kind: str) -> None:
    trace = Trace((0, 0, 0, 2, 2, 2), (True, False, True, True, True, True))
    plain, drafted = replayed(tmp_path, kind, trace)
    assert drafted.ids == plain.ids
    # drafts 1, 2 and 3, of which the first stands; then token 3 is drafted anew
    assert (drafted.drafts, drafted.accepted) == (4, 2)


def test_nothing_leaves(tmp_path: Path) -> None:
    plain, drafted = replayed(tmp_path, "mistral", Trace((2, 2, 2), (False,) * 3))
    assert drafted.ids == plain.ids
    assert drafted.drafts == 0


@pytest.mark.parametrize(
    ("layers", "depth", "to", "there"),
    [((2, 3), 12, 16, (3, 4)), ((6, 12), 24, 48, (12, 24)), ((1,), 3, 3, (1,))],
)
def test_scaled(layers: tuple[int, ...], depth: int, to: int, there: tuple[int, ...]) -> None:
    assert scaled(layers, depth, to) == there


def test_traces() -> None:
    model = load_model("reference:mistral")
    policy = choose(model, Wish(judge="mamba", lossless=True)).policy
    assert policy is not None
    tasks = reference_tasks(3)
    found = traces(model, tasks, policy)
    full = answer_in_batches(model, tasks, None)
    assert [len(trace.exits) for trace in found] == [len(one.ids) for one in full]
    steps = [step for t in found for step in zip(t.exits, t.right, strict=True)]
    assert all(right for exit, right in steps if exit == len(policy.layers))  # the full model's own
    assert any(exit < len(policy.layers) for exit, _ in steps)
