"""The scripted judge: every row and token leaves where the script has it."""

from __future__ import annotations

from itertools import chain
from statistics import fmean

import pytest

from dynexit.evaluation.bench.scripted import PERIOD, Scripted
from dynexit.exits.policy import ExitPolicy
from dynexit.exits.skipped import skipped_state
from dynexit.inference.decoder import Decoder
from models.shapes import HIDDEN, small_backbone

LAYERS, DEPTH = (1, 2, 4), 5


def decoder(rows: int, state: str = "recompute") -> tuple[Decoder, Scripted]:
    judge = Scripted(LAYERS, HIDDEN, DEPTH)
    policy = ExitPolicy(judge, (1.0,) * len(LAYERS), skipped_state(state))
    made = Decoder(small_backbone("attention", DEPTH), rows, 2 * PERIOD, policy)
    made.prefill([[1, 2, 3]] * rows)
    return made, judge


@pytest.mark.parametrize("state", ["recompute", "propagate"])
def test_rows_leave_as_scripted(state: str) -> None:
    rows, tokens = 5, PERIOD + 3
    decoding, judge = decoder(rows, state)
    exits = [decoding.step([7] * rows).exit_layers for _ in range(tokens)]
    script, layers = judge.script(rows).tolist(), (*LAYERS, DEPTH)
    for token, left in enumerate(exits):
        assert left == [layers[script[row][token % PERIOD]] for row in range(rows)]
    assert judge.mean_layer(rows, tokens) == pytest.approx(fmean(chain(*exits)))


def test_every_depth_is_about_as_frequent() -> None:
    counts = Scripted(LAYERS, HIDDEN, DEPTH).script(32).flatten().bincount()
    assert len(counts) == len(LAYERS) + 1
    assert counts.min() > 0.8 * counts.max()


def test_kept_rows_keep_their_script() -> None:
    decoding, judge = decoder(4)
    decoding.step([7] * 4)
    decoding.keep([3, 1])
    layers, script = (*LAYERS, DEPTH), judge.script(4)
    assert decoding.step([7, 7]).exit_layers == [layers[script[3, 1]], layers[script[1, 1]]]
