"""A thousand answers of the shipped pair, drafted and verified: the full model's, all tokens."""

from __future__ import annotations

import pytest
import torch

from dynexit.evaluation.runner import FULL, answer_all
from dynexit.evaluation.tasks.reference import reference_tasks
from dynexit.evaluation.ways import Verified
from dynexit.exits.choice import Wish, choose
from dynexit.inference.speculative import Lossless
from dynexit.models import load_model
from dynexit.reference.pair import NAMES

QUESTIONS = 334  # of each of the three tasks


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_thousand_answers(name: str) -> None:
    model = load_model(f"reference:{name}", torch.float32)
    policy = choose(model, Wish(lossless=True)).policy
    assert policy is not None
    tasks = reference_tasks(QUESTIONS)
    answers = answer_all(model, tasks, {"lossless": Verified(policy, Lossless())})
    pairs = list(zip(answers[FULL], answers["lossless"], strict=True))
    assert len({one.question.prompt for one, _ in pairs}) >= 1000
    differing = [a.question.prompt for a, b in pairs if a.generation.ids != b.generation.ids]
    assert differing == []
    drafts = [b.generation.drafting for _, b in pairs if b.generation.drafting]
    assert sum(one.accepted for one in drafts) > 1000
    assert sum(one.drafts - one.accepted for one in drafts) > 50  # some fall, and are taken back
