"""Costs of reading a prompt: against operations counted while it is read, and sums by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dynexit.exits.judges.registry import build_judge
from dynexit.exits.policy import ExitPolicy
from dynexit.exits.skipped import skipped_state
from dynexit.inference.cost import DecodingCost
from dynexit.inference.decoder import Decoder
from dynexit.inference.prompt_cost import prompt_cost
from dynexit.models.backbone import Backbone
from dynexit.models.config import (
    AttentionConfig,
    BackboneConfig,
    LayerConfig,
    Mamba2Config,
    MambaConfig,
    MlpConfig,
    RopeConfig,
)
from dynexit.models.cost import embedding_cost, layer_cost, layer_parameters

HIDDEN, DEPTH, TOKENS = 256, 4, 25
ROPE = RopeConfig(10000.0, 32, 256)
ATTENTION = LayerConfig(AttentionConfig(8, 4, 32, 32**-0.5, ROPE), MlpConfig(512))
WINDOW = replace(ATTENTION, mixer=AttentionConfig(8, 4, 32, 32**-0.5, ROPE, window=20))
MAMBA = LayerConfig(MambaConfig(512, 8, 4, 16))
MAMBA2 = LayerConfig(Mamba2Config(heads=8, head_dim=64, state=16, groups=1, conv_kernel=4))
STACKS = {
    "attention": (ATTENTION,) * DEPTH,
    "window": (ATTENTION, WINDOW) * 2,
    "mamba": (MAMBA,) * DEPTH,
    "mamba2": (MAMBA2,) * DEPTH,
    "hybrid": (MAMBA2, ATTENTION) * 2,
}
KINDS = pytest.mark.parametrize("kind", STACKS)


def config_of(kind: str) -> BackboneConfig:
    return BackboneConfig(kind, 60, HIDDEN, STACKS[kind], 1e-5, tied=False)


def policy_of(judge: str) -> ExitPolicy:
    return ExitPolicy(build_judge(judge, (1, 3), HIDDEN), (0.5, 0.5), skipped_state("recompute"))


def counted(kind: str, policy: ExitPolicy | None, chunk: int) -> int:
    torch.manual_seed(0)
    backbone = Backbone(config_of(kind)).eval()
    decoder = Decoder(backbone, 1, TOKENS, policy)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        decoder.prefill([[3] * (TOKENS - 1)], chunk)
    return int(counter.get_total_flops())


def uncounted(kind: str) -> int:
    """Operations of convolution and of Mamba's recurrence, which are no matrix products."""
    total = 0
    for layer in STACKS[kind]:
        m = layer.mixer
        if isinstance(m, MambaConfig):
            total += 2 * m.inner * m.conv_kernel + 4 * m.inner * m.state
        elif isinstance(m, Mamba2Config):
            total += 2 * m.conv_dim * m.conv_kernel
    return total * (TOKENS - 1)


@KINDS
@pytest.mark.parametrize("judge", [None, "linear", "mamba", "depth"])
@pytest.mark.parametrize("chunk", [512, 16])
def test_is_what_is_counted_within_a_percent(kind: str, judge: str | None, chunk: int) -> None:
    policy = None if judge is None else policy_of(judge)
    found = prompt_cost(TOKENS, config_of(kind), policy, chunk=chunk)
    assert found.flops - uncounted(kind) == pytest.approx(counted(kind, policy, chunk), rel=0.01)
    assert found.full_flops - uncounted(kind) == pytest.approx(counted(kind, None, chunk), rel=0.01)


@KINDS
def test_flops_are_those_of_its_tokens(kind: str) -> None:
    config = config_of(kind)
    tokens = [layer_cost(config, i, at).flops for at in range(TOKENS - 1) for i in range(DEPTH)]
    steps = prompt_cost(TOKENS, config, chunk=1)
    assert steps.flops == sum(tokens)
    assert prompt_cost(TOKENS, config).flops == pytest.approx(sum(tokens), rel=0.05)


def test_bytes_by_hand() -> None:
    config = config_of("attention")
    weights = sum(layer_parameters(config, i) for i in range(DEPTH)) * 4
    rows = (TOKENS - 1) * embedding_cost(config).bytes
    pair = 2 * 4 * 32 * 4  # key and value of 4 heads of 32 in fp32
    once = prompt_cost(TOKENS, config)
    assert once.bytes == once.full_bytes == weights + rows + DEPTH * pair * (24 + 24)
    twice = prompt_cost(TOKENS, config, chunk=16)
    assert twice.bytes == 2 * weights + rows + DEPTH * pair * (16 + 16 + 24 + 8)
    assert twice.flops == once.flops


def test_a_window_reads_no_more_than_it_sees() -> None:
    config = config_of("window")
    far = prompt_cost(101, config, chunk=10).bytes - prompt_cost(91, config, chunk=10).bytes
    pair = 2 * 4 * 32 * 4
    seen = 2 * pair * (100 + 10) + 2 * pair * (20 + 9 + 10)
    weights = sum(layer_parameters(config, i) for i in range(DEPTH)) * 4
    assert far == weights + 10 * embedding_cost(config).bytes + seen


def test_only_a_recurrent_judge_looks_at_the_prompt() -> None:
    config = config_of("mamba2")
    plain = prompt_cost(TOKENS, config)
    assert prompt_cost(TOKENS, config, policy_of("linear")) == plain
    policy = policy_of("mamba")
    seen = prompt_cost(TOKENS, config, policy)
    checks = sum(policy.judge.flops(exit) for exit in range(2))
    assert 0.4 * checks < (seen.flops - plain.flops) / (TOKENS - 1) < checks  # no output, no gate
    assert seen.bytes > plain.bytes
    assert (seen.full_flops, seen.full_bytes) == (plain.flops, plain.bytes)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 40), max_size=5), st.sampled_from(sorted(STACKS)))
def test_sums(lengths: list[int], kind: str) -> None:
    config, policy = config_of(kind), policy_of("mamba")
    parts = [prompt_cost(length, config, policy) for length in lengths]
    assert prompt_cost(lengths, config, policy) == sum(parts, DecodingCost())


@KINDS
def test_a_prompt_of_one_token_belongs_to_the_answer(kind: str) -> None:
    assert prompt_cost(1, config_of(kind), policy_of("mamba")) == DecodingCost()
