"""Texts that come and go in the rows of one decoder are decoded as if each were alone."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.inference.test_decoder import DEPTH, HIDDEN, VOCAB, backbone
from torch import Tensor

from dynexit.exits.judges import build_judge
from dynexit.exits.policy import ExitPolicy
from dynexit.exits.skipped import skipped_state
from dynexit.inference.decoder import Decoder
from dynexit.models import Backbone

SLOTS, CAPACITY = 3, 24
PAIRS = [
    ("attention", "saturation", "recompute"),
    ("attention", "margin", "copy"),
    ("mamba2", "saturation", "propagate"),
    ("mamba", "patience", "recompute"),
    ("hybrid", "margin", "recompute"),
]


@dataclass
class Text:
    """A prompt, then fixed tokens; ``threshold`` is its own."""

    prompt: list[int]
    tokens: list[int]
    threshold: float
    logits: list[Tensor] = field(default_factory=list)
    exits: list[int] = field(default_factory=list)


def policy(judge: str, state: str, threshold: float) -> ExitPolicy:
    layers = (2, 4)
    built = build_judge(judge, layers, HIDDEN, torch.device("cpu"))
    return ExitPolicy(built, (threshold,) * 2, skipped_state(state))


def alone(model: Backbone, text: Text, judge: str, state: str) -> tuple[Tensor, list[int]]:
    decoder = Decoder(model, 1, CAPACITY, policy(judge, state, text.threshold))
    decoder.prefill([text.prompt])
    steps = [decoder.step([token]) for token in text.tokens]
    return torch.cat([s.logits for s in steps]), [s.exit_layers[0] for s in steps]


TOKEN = st.integers(0, VOCAB - 1)
TEXTS = st.lists(
    st.builds(
        Text,
        st.lists(TOKEN, min_size=1, max_size=6),
        st.lists(TOKEN, min_size=1, max_size=7),
        st.sampled_from([0.0, 0.03, 0.9, 2.0]),
    ),
    min_size=1,
    max_size=6,
)


@pytest.mark.parametrize(("mixers", "judge", "state"), PAIRS)
@settings(max_examples=6, deadline=None)
@given(texts=TEXTS)
def test_texts_in_slots_equal_texts_alone(
    mixers: str, judge: str, state: str, texts: list[Text]
) -> None:
    model = backbone(mixers)
    decoder = Decoder(model, SLOTS, CAPACITY, policy(judge, state, 0.5))
    waiting, running = list(texts), dict[int, Text]()
    for text in texts:
        text.logits, text.exits = [], []
    while waiting or running:
        free = [row for row in range(SLOTS) if row not in running]
        if waiting:  # one joins at each step
            row, text = free[0] if free else -1, waiting[0]
            if row >= 0:
                decoder.clear(row)
                decoder.set_thresholds(row, (text.threshold,) * 2)
                decoder.prefill([text.prompt], rows=[row])
                running[row] = waiting.pop(0)
        rows = sorted(running)
        step = decoder.step([running[r].tokens[len(running[r].exits)] for r in rows], rows)
        for at, row in enumerate(rows):
            running[row].logits.append(step.logits[at])
            running[row].exits.append(step.exit_layers[at])
        running = {r: t for r, t in running.items() if len(t.exits) < len(t.tokens)}
    for text in texts:
        logits, exits = alone(model, text, judge, state)
        assert text.exits == exits
        torch.testing.assert_close(torch.stack(text.logits), logits, rtol=0, atol=1e-5)


def test_a_cleared_row_forgets_what_is_no_number() -> None:
    model = backbone("hybrid")
    decoder = Decoder(model, 2, CAPACITY)
    decoder.prefill([[1, 2], [3, 4, 5]])
    for state in decoder.cache.states:
        assert state is not None
        for tensor in state.tensors():
            if tensor.dim() == 4 and tensor.shape[2] == CAPACITY:  # keys and values
                tensor[1, :, :3] = float("nan")
            else:
                tensor[1] = float("nan")
    decoder.clear(1)
    decoder.prefill([[7, 8]], rows=[1])
    step = decoder.step([9, 9])
    assert torch.isfinite(step.logits).all()
    assert step.exit_layers[0] == DEPTH
