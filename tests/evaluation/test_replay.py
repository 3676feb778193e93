"""Replaying an answer tells what decoding with exact states would do, for every judge."""

from __future__ import annotations

import pytest
import torch

from dynexit.evaluation.replay import record, same_answer
from dynexit.exits.judges import JUDGES, build_judge
from dynexit.exits.policy import ExitPolicy
from dynexit.exits.skipped import skipped_state
from dynexit.inference.generate import generate
from dynexit.inference.settings import GenerationSettings
from dynexit.models import Model

PROMPTS = ("Where is Mary?", "x", "Story: Tina has a horse.\nQ: Who?\nA:", "12 apples")
SETTINGS = GenerationSettings(max_new_tokens=6)
LAYERS = (2, 3)


@pytest.mark.parametrize("kind", JUDGES)
def test_equals_decoding(model: Model, kind: str) -> None:
    torch.manual_seed(4)
    judge = build_judge(kind, LAYERS, model.backbone.config.hidden)
    seen = set()
    for prompt in PROMPTS:
        full = generate(model, prompt, SETTINGS)[0]
        recording = record(model, prompt, full, LAYERS)
        for threshold in (0.0, 0.01, 0.05, 0.2, 0.5, 0.6, 0.999, 1.5):
            policy = ExitPolicy(judge, (threshold,) * len(LAYERS), skipped_state("recompute"))
            early = generate(model, prompt, SETTINGS, policy)[0]
            same = early.ids == full.ids
            assert same_answer(recording, judge, (threshold,) * len(judge.layers)) == same, (
                prompt,
                threshold,
            )
            seen.add(same)
    assert True in seen  # a threshold above 1 is never reached
