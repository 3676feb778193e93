"""Decoding with exits in fp32, bf16 and fp16: finite everywhere, and near fp32, in every family."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from dynexit.exits.judges import build_judge
from dynexit.exits.policy import ExitPolicy
from dynexit.exits.skipped import skipped_state
from dynexit.inference.decoder import Decoder
from dynexit.inference.step import Step
from dynexit.models import Backbone, load_backbone
from models.zoo import Checkpoint, random_ids

PROMPTS, STEPS, CAPACITY = (5, 9, 2), 8, 24
NEVER, SOMETIMES = 2.0, 0.5
CLOSE = {torch.float32: 0.0, torch.bfloat16: 0.15, torch.float16: 0.04}  # in standard deviations


def policy(backbone: Backbone, threshold: float, state: str) -> ExitPolicy:
    """The mamba judge with random weights, large enough that scores lie on both sides of a half."""
    torch.manual_seed(7)
    layers = tuple(range(1, backbone.depth))
    judge = build_judge("mamba", layers, backbone.config.hidden)
    with torch.no_grad():
        for name, weight in judge.named_parameters():  # type: ignore[attr-defined]
            if name.endswith("out_proj.weight"):
                weight.mul_(30.0)
    return ExitPolicy(judge, (threshold,) * len(layers), skipped_state(state))


def decoded(backbone: Backbone, exits: ExitPolicy) -> list[Step]:
    """Steps of three rows that are fed the same tokens, whatever they would say."""
    ids = random_ids(len(PROMPTS), CAPACITY, seed=5).tolist()
    decoder = Decoder(backbone, len(PROMPTS), CAPACITY, exits)
    decoder.prefill([row[:length] for row, length in zip(ids, PROMPTS, strict=True)])
    return [
        decoder.step([row[n + at] for row, n in zip(ids, PROMPTS, strict=True)])
        for at in range(STEPS)
    ]


def close(one: Tensor, other: Tensor, within: float) -> bool:
    return float((one.float() - other.float()).abs().max()) <= within * float(other.std())


@pytest.mark.parametrize("dtype", CLOSE, ids=lambda dtype: str(dtype).removeprefix("torch."))
def test_finite_and_close(checkpoint: Checkpoint, dtype: torch.dtype) -> None:
    backbone = load_backbone(checkpoint.directory, dtype)
    exact = load_backbone(checkpoint.directory, torch.float32)
    left = set()
    for state in ("recompute", "propagate"):
        for step in decoded(backbone, policy(backbone, SOMETIMES, state)):
            assert step.logits.isfinite().all()
            assert step.logits.dtype == dtype
            assert all(score is not None and 0 <= score <= 1 for score in step.scores)
            assert step.invalid_scores == [0] * len(PROMPTS)
            left |= set(step.exit_layers)
    assert len(left) > 1  # some leave, and not all at one layer
    through = policy(backbone, NEVER, "recompute"), policy(exact, NEVER, "recompute")
    ours, theirs = decoded(backbone, through[0]), decoded(exact, through[1])
    for one, other in zip(ours, theirs, strict=True):
        assert close(one.logits, other.logits, CLOSE[dtype])
        for mine, right in zip(one.scores, other.scores, strict=True):
            assert mine is not None
            assert right is not None
            assert math.isclose(mine, right, abs_tol=3 * CLOSE[dtype])
