"""Costs of decoding: against operations counted while it runs, and against sums by hand."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dynexit.errors import UserError
from dynexit.exits.judges.registry import build_judge
from dynexit.exits.policy import Constant, ExitPolicy
from dynexit.exits.recompute import Recompute
from dynexit.exits.screen import Screen
from dynexit.exits.screened import behind_screen
from dynexit.exits.skipped import SkippedState, skipped_state
from dynexit.exits.translator import Translators
from dynexit.inference.cost import DecodingCost, decoding_cost
from dynexit.inference.decoder import Decoder
from dynexit.inference.generation import GeneratedToken, Generation
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
from dynexit.models.cost import (
    advance_cost,
    embedding_cost,
    layer_cost,
    readout_cost,
    token_cost,
)

HIDDEN, VOCAB, DEPTH, PROMPT = 32, 60, 6, 5
EXITS, MIXED = (2, 4), (2, 4, 6, 6, 2, 4)
ROPE = RopeConfig(10000.0, 8, 256)
ATTENTION = LayerConfig(AttentionConfig(4, 2, 8, 8**-0.5, ROPE), MlpConfig(48))
WINDOW = LayerConfig(AttentionConfig(4, 2, 8, 8**-0.5, ROPE, window=4), MlpConfig(48))
MAMBA = LayerConfig(MambaConfig(48, 8, 4, 2))
MAMBA2 = LayerConfig(Mamba2Config(heads=4, head_dim=16, state=8, groups=1, conv_kernel=4))
STACKS = {
    "attention": (ATTENTION,) * DEPTH,
    "window": (ATTENTION, WINDOW) * (DEPTH // 2),
    "mamba2": (MAMBA2,) * DEPTH,
    "mamba": (MAMBA,) * DEPTH,
    "hybrid": (MAMBA2, MAMBA2, ATTENTION) * (DEPTH // 3),
}


def config_of(kind: str) -> BackboneConfig:
    return BackboneConfig(kind, VOCAB, HIDDEN, STACKS[kind], 1e-5, tied=False)


@dataclass(frozen=True)
class Script:
    """Exits after given layers, whatever the judge says; thresholds tell which exit it is."""

    exits: Sequence[int]

    def threshold(self, base: float, position: int) -> float:
        return 0.0 if self.exits[position] == base else 2.0


def policy_of(
    judge: str,
    state: str | SkippedState,
    exits: Sequence[int] = (),
    translators: bool = False,
) -> ExitPolicy:
    """A judge that is asked at every exit, while a script decides."""
    return ExitPolicy(
        build_judge(judge, EXITS, HIDDEN),
        tuple(map(float, EXITS)),
        skipped_state(state) if isinstance(state, str) else state,
        Script(exits),
        Translators(EXITS, HIDDEN) if translators else None,
    )


def answer(exits: Sequence[int], prompt: int = PROMPT) -> Generation:
    tokens = tuple(GeneratedToken(1, "", layer, None) for layer in exits)
    return Generation(prompt, tokens, "", DEPTH, 1.0, 0.0, "length")


def decoded(kind: str, policy: ExitPolicy | None, steps: int) -> tuple[Generation, int]:
    """An answer of a random backbone, and the operations counted in its decode steps."""
    torch.manual_seed(0)
    backbone = Backbone(config_of(kind)).eval()
    decoder = Decoder(backbone, 1, PROMPT + steps, policy)
    decoder.prefill([[3] * (PROMPT - 1)])
    tokens, last = [], 3
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        for _ in range(steps):
            step = decoder.step([last])
            last = int(step.logits.argmax())
            beside = (step.catch_up[0], step.idle_readouts[0])
            tokens.append(GeneratedToken(last, "", step.exit_layers[0], None, *beside))
    made = Generation(PROMPT, tuple(tokens), "", DEPTH, 1.0, 0.0, "length")
    return made, int(counter.get_total_flops())


def unseen(kind: str, made: Generation, policy: ExitPolicy | None) -> int:
    """Operations of convolution and recurrence that the counter doesn't see."""
    advances = policy is not None and policy.state.name == "propagate"
    total = 0
    for token in made.tokens:
        for layer in STACKS[kind][: DEPTH if advances else token.exit_layer]:
            m = layer.mixer
            if isinstance(m, Mamba2Config):
                total += 2 * m.conv_dim * m.conv_kernel + 3 * m.inner * m.state
            elif isinstance(m, MambaConfig):
                total += 2 * m.inner * m.conv_kernel + 4 * m.inner * m.state
    return total


@pytest.mark.parametrize("kind", STACKS)
def test_full_depth_costs_what_is_counted(kind: str) -> None:
    made, counted = decoded(kind, None, 6)
    cost = decoding_cost(made, config_of(kind))
    assert cost.flops - unseen(kind, made, None) == counted
    assert (cost.flop_saving, cost.byte_saving, cost.layer_saving) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("judge", ["linear", "ffn", "top-probability", "patience", "fixed"])
@pytest.mark.parametrize("translators", [False, True])
@pytest.mark.parametrize(
    ("kind", "state"),
    [
        ("attention", "copy"),
        ("attention", "propagate"),
        ("window", "propagate"),
        ("mamba", "propagate"),
        ("mamba2", "propagate"),
        ("mamba2", "freeze"),
        ("hybrid", "propagate"),
    ],
)
def test_exits_cost_what_is_counted(judge: str, translators: bool, kind: str, state: str) -> None:
    policy = policy_of(judge, state, MIXED, translators)
    made, counted = decoded(kind, policy, len(MIXED))
    assert [token.exit_layer for token in made.tokens] == list(MIXED)
    cost = decoding_cost(made, config_of(kind), policy)
    assert cost.flops - unseen(kind, made, policy) == counted
    assert cost.layer_saving == pytest.approx(made.layer_saving)


@pytest.mark.parametrize("translators", [False, True])
@pytest.mark.parametrize(
    ("kind", "thresholds"), [("margin", (0.001, 0.01, 0.1)), ("patience", (0.5, 1.0))]
)
def test_a_screen_costs_what_is_counted(
    kind: str, thresholds: Sequence[float], translators: bool
) -> None:
    plain = policy_of(kind, "propagate", (), translators)
    torch.manual_seed(0)
    screen = Screen(Backbone(config_of("mamba2")).eval(), 3, 4, plain.translators)
    judge = behind_screen(plain.judge, screen, HIDDEN)
    idle = set()
    for threshold in thresholds:
        policy = replace(plain, judge=judge, thresholds=(threshold, threshold), schedule=Constant())
        made, counted = decoded("mamba2", policy, 20)
        cost = decoding_cost(made, config_of("mamba2"), policy)
        assert cost.flops - unseen("mamba2", made, policy) == counted
        idle |= {token.idle_readouts for token in made.tokens}
    assert len(idle) > 1


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from([*EXITS, DEPTH]), min_size=1, max_size=12), st.integers(1, 20))
def test_catching_up_is_what_decoding_does(exits: list[int], limit: int) -> None:
    policy = policy_of("fixed", Recompute(limit), exits)
    made, counted = decoded("attention", policy, len(exits))
    cost = decoding_cost(made, config_of("attention"), policy)
    assert [token.exit_layer for token in made.tokens] == exits
    assert cost.layer_saving == pytest.approx(made.layer_saving)
    # in a block every token is compared with every key, also with those it may not see
    assert cost.flops <= counted <= 1.05 * cost.flops


def test_bytes_of_a_policy_by_hand() -> None:
    config, policy = config_of("hybrid"), policy_of("linear", "propagate")
    cost = decoding_cost(answer([2, 6]), config, policy)
    expected = 0
    for position, (layers, checks) in enumerate([(2, 1), (6, 2)], PROMPT - 1):
        expected += token_cost(config, layers, position).bytes
        expected += checks * 4 * (HIDDEN + 1)  # weights and bias of the linear judge, fp32
    expected += sum(advance_cost(config, index).bytes for index in range(2, 6))
    assert cost.bytes == expected
    assert cost.full_bytes == sum(token_cost(config, 6, at).bytes for at in (4, 5))


def test_a_confidence_judge_reads_the_head_for_every_check() -> None:
    config = config_of("attention")
    by_state = decoding_cost(answer([4]), config, policy_of("fixed", "copy"))
    by_logits = decoding_cost(answer([4]), config, policy_of("top-probability", "copy"))
    assert by_logits.flops - by_state.flops == readout_cost(config).flops
    assert by_logits.bytes - by_state.bytes == readout_cost(config).bytes
    never = decoding_cost(answer([6]), config, policy_of("top-probability", "copy"))
    assert never.flops - never.full_flops == 2 * readout_cost(config).flops
    assert never.flop_saving < 0
    assert never.layer_saving == 0


def test_copy_writes_keys_and_values() -> None:
    config = config_of("attention")
    copied = decoding_cost(answer([4]), config, policy_of("fixed", "copy"))
    bare = token_cost(config, 4, PROMPT - 1)
    assert copied.flops == bare.flops
    assert copied.bytes - bare.bytes == 2 * (2 * 2 * 8 * 4)  # 2 layers of 2 heads of 8 in fp32


def test_catching_up_reads_no_weights_again() -> None:
    config = config_of("mamba2")
    policy = policy_of("fixed", "recompute")
    apart = sum(token_cost(config, layers, at).bytes for at, layers in ((4, 2), (5, 2), (6, 6)))
    cost = decoding_cost(answer([2, 2, 6]), config, policy)
    assert cost.bytes == apart
    assert cost.flops == cost.full_flops
    assert cost.byte_saving > 0 == cost.flop_saving
    assert cost.layer_saving == pytest.approx(1 - 10 / 18)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([2, 4, 6]), max_size=8), st.sampled_from(sorted(STACKS)))
def test_sums(exits: list[int], kind: str) -> None:
    config, policy = config_of(kind), policy_of("linear", "propagate")
    one, other = answer(exits), answer([2, 6], prompt=9)
    both = decoding_cost([one, other], config, policy)
    parts = [decoding_cost(each, config, policy) for each in (one, other)]
    assert both == parts[0] + parts[1]
    assert (
        parts[0].full_flops
        == sum(
            layer_cost(config, i, PROMPT - 1 + t).flops
            for t in range(len(exits))
            for i in range(DEPTH)
        )
        + len(exits) * (readout_cost(config) + embedding_cost(config)).flops
    )
    assert both.flop_saving < 1
    assert both.byte_saving < 1


def test_the_empty_answer_and_the_wrong_model() -> None:
    config = config_of("attention")
    nothing = decoding_cost(answer([]), config)
    assert nothing == DecodingCost()
    assert (nothing.flop_saving, nothing.byte_saving, nothing.layer_saving) == (0.0, 0.0, 0.0)
    with pytest.raises(UserError, match="6 layers"):
        decoding_cost(answer([7]), config)
