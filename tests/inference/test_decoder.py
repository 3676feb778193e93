"""Decoding with exits: what runs, what it gives, and what state it leaves."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dynexit.errors import UserError
from dynexit.exits.judge import Evidence, JudgeState
from dynexit.exits.policy import ExitPolicy
from dynexit.exits.recompute import Recompute
from dynexit.exits.skipped import skipped_state
from dynexit.inference.decoder import Decoder
from dynexit.models import AttentionState, Backbone, BackboneConfig, Placement
from dynexit.models.config import (
    AttentionConfig,
    LayerConfig,
    Mamba2Config,
    MambaConfig,
    MixerConfig,
    MlpConfig,
    RopeConfig,
)

HIDDEN, VOCAB, DEPTH = 32, 50, 6
ATTENTION = AttentionConfig(4, 2, 8, 8**-0.5, RopeConfig(10000.0, 8, 256))
MAMBA = MambaConfig(48, 8, 4, 2)
MAMBA2 = Mamba2Config(heads=4, head_dim=16, state=8, groups=2, conv_kernel=4, chunk=4)
MIXERS: dict[str, list[MixerConfig]] = {
    "attention": [ATTENTION],
    "mamba": [MAMBA],
    "mamba2": [MAMBA2],
    "hybrid": [MAMBA2, ATTENTION],
}


class ScriptedJudge:
    """Leaves where a script says: per answer token, the exit layer of each row."""

    kind = "scripted"

    def __init__(self, layers: Sequence[int], script: Sequence[Sequence[int]]) -> None:
        self.layers = tuple(layers)
        self._script = script
        self.step = 0

    def new_state(self, rows: int) -> JudgeState:
        return JudgeState({"row": torch.arange(rows)})

    def observe(self, exit: int, hidden: Tensor, state: JudgeState, place: Placement) -> None:
        pass

    def score(
        self, exit: int, evidence: Evidence, state: JudgeState, rows: Tensor | None
    ) -> Tensor:
        wanted = torch.tensor(self._script[self.step])
        mine = state.tensors["row"] if rows is None else state.tensors["row"][rows]
        return (wanted[mine] == self.layers[exit]).float()

    def flops(self, exit: int) -> int:
        return 0

    def weight_bytes(self, exit: int) -> int:
        return 0

    def needs_logits(self) -> bool:
        return False


def backbone(kind: str, dtype: torch.dtype = torch.float64) -> Backbone:
    return backbone_of(kind, MIXERS[kind], dtype)


def backbone_of(
    kind: str, mixers: Sequence[MixerConfig], dtype: torch.dtype = torch.float64
) -> Backbone:
    torch.manual_seed(0)
    layers = tuple(
        LayerConfig(mixers[i % len(mixers)], MlpConfig(48) if kind != "mamba2" else None)
        for i in range(DEPTH)
    )
    model = Backbone(BackboneConfig(kind, VOCAB, HIDDEN, layers, 1e-5, False)).to(dtype).eval()
    return model.requires_grad_(False)


def policy(
    script: Sequence[Sequence[int]], state: str, layers: Sequence[int] = (2, 4)
) -> ExitPolicy:
    judge = ScriptedJudge(layers, script)
    return ExitPolicy(judge, (0.5,) * len(layers), skipped_state(state))


def decode(
    model: Backbone,
    prompts: list[list[int]],
    answers: list[list[int]],
    exits: ExitPolicy | None,
) -> tuple[Decoder, list[Tensor], list[list[int]]]:
    """Feed given answer tokens; returns the decoder, logits and exit layers of each step."""
    decoder = Decoder(model, len(prompts), 64, exits)
    decoder.prefill(prompts, chunk=3)
    logits, layers = [], []
    for step, tokens in enumerate(zip(*answers, strict=True)):
        if exits is not None:
            exits.judge.step = step  # type: ignore[attr-defined]
        result = decoder.step(tokens)
        logits.append(result.logits)
        layers.append(result.exit_layers)
    return decoder, logits, layers


def count_layers(model: Backbone) -> list[int]:
    """A list that counts, from now on, how often each layer of the model runs."""
    counts = [0] * model.depth
    for index, block in enumerate(model.blocks()):
        block.register_forward_hook(lambda *_, i=index: counts.__setitem__(i, counts[i] + 1))
    return counts


@pytest.mark.parametrize("kind", MIXERS)
def test_skipped_layers_do_not_run(kind: str) -> None:
    model = backbone(kind)
    decoder = Decoder(model, 1, 32, policy([[2], [4], [DEPTH]], "propagate"))
    decoder.prefill([[1, 2, 3]])
    counts = count_layers(model)
    expected = [0] * DEPTH
    for step, layer in enumerate((2, 4, DEPTH)):
        decoder.policy.judge.step = step  # type: ignore[union-attr]
        assert decoder.step([5]).exit_layers == [layer]
        expected = [n + (i < layer) for i, n in enumerate(expected)]
        assert counts == expected


@pytest.mark.parametrize("kind", MIXERS)
@pytest.mark.parametrize("state", ["copy", "propagate", "freeze", "recompute"])
def test_threshold_above_one_is_the_full_model(kind: str, state: str) -> None:
    model = backbone(kind)
    script = [[2]] * 8
    never = ExitPolicy(ScriptedJudge((2, 4), script), (1.5, 1.5), skipped_state(state))
    try:
        never.state.check(model.config)
    except UserError:
        pytest.skip(f"{state} has no meaning for {kind}")
    prompt, answer = [[1, 2, 3, 4]], [[5, 6, 7, 8, 9, 10, 11, 12]]
    _, full, _ = decode(model, prompt, answer, None)
    _, early, layers = decode(model, prompt, answer, never)
    assert layers == [[DEPTH]] * 8
    for one, other in zip(full, early, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kind", MIXERS)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_recompute_leaves_the_state_of_the_full_model(kind: str, data: st.DataObject) -> None:
    """Whatever the exits: after catching up, every layer's state is the full model's, and tokens
    that ran to the last layer have the full model's logits."""
    model = backbone(kind)
    rows = data.draw(st.integers(1, 3))
    steps = data.draw(st.integers(1, 8))
    exit_layers = st.sampled_from([1, 2, 4, DEPTH])
    script = data.draw(
        st.lists(
            st.lists(exit_layers, min_size=rows, max_size=rows), min_size=steps, max_size=steps
        )
    )
    token = st.integers(0, VOCAB - 1)
    prompts = [data.draw(st.lists(token, min_size=1, max_size=7)) for _ in range(rows)]
    answers = [data.draw(st.lists(token, min_size=steps, max_size=steps)) for _ in range(rows)]
    exits = policy(script, "recompute", (1, 2, 4))
    early, early_logits, layers = decode(model, prompts, answers, exits)
    assert layers == script
    for row in range(rows):
        early._session.flush(row, early.lengths[row])
        alone, full_logits, _ = decode(model, [prompts[row]], [answers[row]], None)
        length = alone.lengths[0]
        for state, whole in zip(early.cache.states, alone.cache.states, strict=True):
            assert state is not None
            assert whole is not None
            for x, y in zip(state.tensors(), whole.tensors(), strict=True):
                x = x[row : row + 1]
                if isinstance(state, AttentionState):
                    x, y = x[:, :, :length], y[:, :, :length]
                torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-9)
        for step in range(steps):
            if script[step][row] == DEPTH:
                torch.testing.assert_close(early_logits[step][row], full_logits[step][0])


@pytest.mark.parametrize("kind", MIXERS)
@pytest.mark.parametrize("state", ["copy", "propagate", "freeze", "recompute"])
def test_batched_rows_equal_single_ones(kind: str, state: str) -> None:
    model = backbone(kind)
    try:
        skipped_state(state).check(model.config)
    except UserError:
        pytest.skip(f"{state} has no meaning for {kind}")
    script = [[2, 4, DEPTH], [DEPTH, 2, 2], [4, 4, 2], [DEPTH, DEPTH, 4]]
    prompts = [[1, 2, 3], [4], [5, 6, 7, 8, 9]]
    answers = [[3, 4, 5, 6], [7, 8, 9, 10], [11, 12, 13, 14]]
    _, together, _ = decode(model, prompts, answers, policy(script, state))
    for row in range(3):
        own = [[layers[row]] for layers in script]
        _, alone, _ = decode(model, [prompts[row]], [answers[row]], policy(own, state))
        for one, other in zip(together, alone, strict=True):
            torch.testing.assert_close(one[row], other[0])


def test_recompute_bounds_what_waits() -> None:
    model = backbone("attention")
    judge = ScriptedJudge((2, 4), [[2]] * 20)
    decoder = Decoder(model, 1, 64, ExitPolicy(judge, (0.5, 0.5), Recompute(limit=5)))
    decoder.prefill([[1, 2]])
    caught = 0
    for step in range(20):
        judge.step = step
        caught += sum(decoder.step([3]).catch_up)
        assert decoder._session.waiting(0) <= 5
    assert caught == 18 * (DEPTH - 2)  # three times six tokens through four layers


def test_finished_rows_are_not_computed() -> None:
    model = backbone("mamba2")
    script = [[2, 4, 2], [4, 2, 2], [DEPTH, DEPTH, 2]]
    prompts, answers = [[1, 2], [3, 4], [5, 6]], [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    _, whole, _ = decode(model, prompts, answers, policy(script, "recompute"))
    exits = policy(script, "recompute")
    decoder = Decoder(model, 3, 64, exits)
    decoder.prefill(prompts)
    decoder.step([row[0] for row in answers])
    decoder.keep([2, 0])
    exits.judge.step = 1  # type: ignore[attr-defined]
    second = decoder.step([answers[2][1], answers[0][1]])
    assert second.logits.shape[0] == 2
    torch.testing.assert_close(second.logits, whole[1][[2, 0]])


def test_policies_without_meaning_are_refused() -> None:
    with pytest.raises(UserError, match="'copy' needs attention"):
        Decoder(backbone("mamba2"), 1, 8, policy([[2]], "copy"))
    with pytest.raises(UserError, match="'freeze' has no meaning"):
        Decoder(backbone("attention"), 1, 8, policy([[2]], "freeze"))
    with pytest.raises(UserError, match="'copy' needs attention"):
        Decoder(backbone("hybrid"), 1, 8, policy([[2]], "copy"))
    with pytest.raises(UserError, match="not known"):
        skipped_state("guess")


def test_copy_gives_skipped_layers_the_entries_of_the_exit() -> None:
    decoder, _, _ = decode(backbone("attention"), [[1, 2, 3]], [[4]], policy([[2]], "copy"))
    states = decoder.cache.states
    for state in states[2:]:
        assert isinstance(state, AttentionState)
        assert isinstance(states[1], AttentionState)
        torch.testing.assert_close(state.k[:, :, 3], states[1].k[:, :, 3])
        torch.testing.assert_close(state.v[:, :, 3], states[1].v[:, :, 3])


def test_freeze_leaves_skipped_layers_as_they_were() -> None:
    model = backbone("mamba2")
    before, _, _ = decode(model, [[1, 2, 3, 4]], [[5]], policy([[DEPTH]], "freeze"))
    after, _, _ = decode(model, [[1, 2, 3, 4]], [[5, 6]], policy([[DEPTH], [2]], "freeze"))
    for layer in range(2, DEPTH):
        one, other = before.cache.states[layer], after.cache.states[layer]
        assert one is not None
        assert other is not None
        for x, y in zip(one.tensors(), other.tensors(), strict=True):
            assert torch.equal(x, y)
