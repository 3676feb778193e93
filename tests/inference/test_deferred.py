"""Tokens that wait for others at the first exit are decoded as if nobody waited."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.inference.test_decoder import backbone
from tests.inference.test_slots import CAPACITY, PAIRS, SLOTS, TEXTS, Text, alone, policy

from dynexit.inference.decoder import Decoder
from dynexit.inference.deferred import DeferringDecoder
from dynexit.inference.step import Step


class Slots:
    """Texts in the rows of a decoder, each with tokens that are known beforehand."""

    def __init__(self, decoder: DeferringDecoder, texts: list[Text]) -> None:
        self.decoder, self.waiting = decoder, list(texts)
        self.running: dict[int, Text] = {}
        for text in texts:
            text.logits, text.exits = [], []

    def admit(self) -> None:
        free = [row for row in range(SLOTS) if row not in self.running]
        if free and self.waiting:
            text = self.waiting.pop(0)
            self.decoder.clear(free[0])
            self.decoder.set_thresholds(free[0], (text.threshold,) * 2)
            self.decoder.prefill([text.prompt], rows=[free[0]])
            self.running[free[0]] = text

    def begin(self) -> None:
        rows = [row for row in sorted(self.running) if row not in self.decoder.held]
        if rows:
            ids = [text.tokens[len(text.exits)] for text in map(self.running.__getitem__, rows)]
            self.note(*self.decoder.begin(ids, rows))

    def finish(self, rows: list[int]) -> None:
        if rows:
            self.note(rows, self.decoder.finish(rows))

    def note(self, rows: list[int], step: Step | None) -> None:
        if step is None:
            return
        for at, row in enumerate(rows):
            self.running[row].logits.append(step.logits[at])
            self.running[row].exits.append(step.exit_layers[at])
        self.running = {r: t for r, t in self.running.items() if len(t.exits) < len(t.tokens)}


@pytest.mark.parametrize(("mixers", "judge", "state"), PAIRS)
@settings(max_examples=6, deadline=None)
@given(texts=TEXTS, data=st.data())
def test_texts_that_wait_equal_texts_alone(
    mixers: str, judge: str, state: str, texts: list[Text], data: st.DataObject
) -> None:
    model = backbone(mixers)
    slots = Slots(DeferringDecoder(model, SLOTS, CAPACITY, policy(judge, state, 0.5)), texts)
    while slots.waiting or slots.running:
        slots.admit()
        slots.begin()
        held = slots.decoder.held
        patient = data.draw(st.booleans()) and len(held) < len(slots.running)
        some = data.draw(st.integers(1, len(held))) if held else 0
        slots.finish([] if patient else held[:some])
    for text in texts:
        logits, exits = alone(model, text, judge, state)
        assert text.exits == exits
        torch.testing.assert_close(torch.stack(text.logits), logits, rtol=0, atol=1e-5)


def test_figures_are_those_of_a_step() -> None:
    """Scores, catching up and readouts, too; and deep tokens are not judged."""
    model, rows = backbone("hybrid"), [0, 1, 2]
    ones = Decoder(model, 3, CAPACITY, policy("margin", "recompute", 0.03))
    twos = DeferringDecoder(model, 3, CAPACITY, policy("margin", "recompute", 0.03))
    prompts = [[1, 2, 3], [4, 5], [6]]
    ones.prefill(prompts)
    twos.prefill(prompts)
    early = 0
    for ids in ([7, 8, 9], [10, 11, 12], [3, 2, 1], [8, 8, 2]):
        whole = ones.step(ids, rows, deep=[1])
        left, first = twos.begin(ids, rows, deep=[1])
        assert 1 not in left
        early += len(left)
        held = twos.held
        then = twos.finish(held)
        for step, some in ((first, left), (then, held)):
            for at, row in enumerate(some):
                assert step is not None
                for name in ("exit_layers", "catch_up", "idle_readouts", "invalid_scores"):
                    assert getattr(step, name)[at] == getattr(whole, name)[row]
                assert step.scores[at] == pytest.approx(whole.scores[row])
                torch.testing.assert_close(step.logits[at], whole.logits[row], rtol=0, atol=1e-5)
    assert early > 0


def test_rows_that_are_cleared_or_dropped_wait_no_more() -> None:
    model = backbone("attention")
    decoder = DeferringDecoder(model, 3, CAPACITY, policy("margin", "recompute", 0.5))
    decoder.prefill([[1, 2], [3, 4, 5], [6]])
    assert decoder.begin([7, 8, 9], [0, 1, 2], deep=[0, 1, 2]) == ([], None)
    assert decoder.held == [0, 1, 2]
    decoder.clear(1)
    assert decoder.held == [0, 2]
    decoder.keep([2, 1])
    assert decoder.held == [0]
    assert decoder.finish([0]).exit_layers == [model.depth]
    assert decoder.held == []
