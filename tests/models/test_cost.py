"""Costs from shapes against the backbone itself: its parameters, its cache, counted operations."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dynexit.models.backbone import Backbone
from dynexit.models.cache import Cache
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
    LayerCost,
    advance_cost,
    layer_cost,
    layer_parameters,
    parameters,
    readout_cost,
    token_cost,
)
from dynexit.models.mamba import Mamba

ROPE = RopeConfig(10000.0, 8, 256)
PLAIN = AttentionConfig(4, 4, 8, 8**-0.5, ROPE)
GROUPED = AttentionConfig(4, 2, 8, 8**-0.5, ROPE, qkv_bias=True, output_bias=True, qk_norm=True)
WINDOW = AttentionConfig(4, 1, 8, 8**-0.5, None, window=5)
MAMBA = MambaConfig(inner=48, state=8, conv_kernel=4, dt_rank=3)
FALCON = MambaConfig(48, 8, 4, 3, bias=True, conv_bias=False, bcdt_norm="weightless")
JAMBA = MambaConfig(48, 8, 3, 3, bcdt_norm="learned")
MAMBA2 = Mamba2Config(heads=6, head_dim=8, state=16, groups=1, conv_kernel=4)
GROUPS = Mamba2Config(6, 8, 16, groups=2, conv_kernel=3, bias=True, conv_bias=False)
SWIGLU = MlpConfig(40)
PLAIN_MLP = MlpConfig(40, "relu2", gated=False, bias=True)
GATED_BIAS = MlpConfig(40, bias=True)

LAYERS = {
    "attention": LayerConfig(PLAIN, SWIGLU),
    "grouped": LayerConfig(GROUPED, GATED_BIAS),
    "window": LayerConfig(WINDOW, PLAIN_MLP),
    "mamba": LayerConfig(MAMBA),
    "falcon": LayerConfig(FALCON),
    "jamba": LayerConfig(JAMBA, SWIGLU),
    "mamba2": LayerConfig(MAMBA2),
    "groups": LayerConfig(GROUPS, SWIGLU),
    "mlp": LayerConfig(None, PLAIN_MLP),
}
KINDS = pytest.mark.parametrize("kind", LAYERS)


def config_of(*kinds: str, tied: bool = False) -> BackboneConfig:
    layers = tuple(LAYERS[kind] for kind in kinds)
    return BackboneConfig("test", vocab=50, hidden=24, layers=layers, norm_eps=1e-5, tied=tied)


def after(config: BackboneConfig, context: int) -> tuple[Backbone, Cache]:
    """A backbone that has read ``context`` tokens."""
    backbone = Backbone(config).eval()
    cache = backbone.new_cache(1, context + 1)
    with torch.inference_mode():
        ids = torch.zeros(1, context, dtype=torch.long)
        place = backbone.place([0], [context])
        backbone.run(backbone.embed(ids), cache, 0, config.depth, place)
    return backbone, cache


def counted(work: Callable[[], object]) -> int:
    # only attention written as matrix products is counted on a CPU
    exact = sdpa_kernel(SDPBackend.MATH)
    with torch.inference_mode(), exact, FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def unseen(config: BackboneConfig) -> int:
    """Operations that the counter doesn't see: those of convolution and recurrence but its output,
    which are written with elementwise operations."""
    mixer = config.layers[0].mixer
    if isinstance(mixer, Mamba2Config):
        return 2 * mixer.conv_dim * mixer.conv_kernel + 3 * mixer.inner * mixer.state
    if isinstance(mixer, MambaConfig):
        return 2 * mixer.inner * mixer.conv_kernel + 4 * mixer.inner * mixer.state
    return 0


@KINDS
@pytest.mark.parametrize("tied", [True, False])
def test_parameters_are_those_of_the_backbone(kind: str, tied: bool) -> None:
    config = config_of(kind, "mlp", kind, tied=tied)
    backbone = Backbone(config)
    assert parameters(config) == sum(p.numel() for p in backbone.parameters())
    for index, block in enumerate(backbone.blocks()):
        assert layer_parameters(config, index) == sum(p.numel() for p in block.parameters())


@KINDS
@pytest.mark.parametrize("context", [1, 12])
def test_flops_of_a_layer_are_those_counted(kind: str, context: int) -> None:
    config = config_of(kind)
    backbone, cache = after(config, context)
    hidden, place = torch.randn(1, 1, 24), backbone.place([context], [1])
    seen = counted(lambda: backbone.run(hidden, cache, 0, 1, place))
    assert layer_cost(config, 0, context).flops - unseen(config) == seen


@KINDS
def test_flops_of_an_advance_are_those_counted(kind: str) -> None:
    config = config_of(kind)
    backbone, cache = after(config, 4)
    hidden, place = torch.randn(1, 1, 24), backbone.place([4], [1])
    seen = counted(lambda: backbone.advance(hidden, cache, 0, 1, place))
    assert advance_cost(config, 0).flops - unseen(config) * (seen > 0) == seen


def test_flops_of_a_whole_token() -> None:
    config = config_of("attention", "grouped", "mlp", "attention")
    backbone, cache = after(config, 9)
    place = backbone.place([9], [1])

    def step() -> None:
        hidden = backbone.embed(torch.zeros(1, 1, dtype=torch.long))
        backbone.readout(backbone.run(hidden, cache, 0, 3, place))

    assert token_cost(config, 3, 9).flops == counted(step)


def spoil_unread(backbone: Backbone) -> int:
    """Make NaN what an advance of the first layer has no use for; how many elements those are."""
    block = backbone.blocks()[0]
    unread = [p for name, p in block.named_parameters() if name.startswith("mlp")]
    for name, parameter in block.named_parameters():
        part = name.removeprefix("mixer.")
        if part.startswith(("q_proj", "q_norm", "o_proj", "out_proj", "norm", "D")):
            unread.append(parameter)
        if part.startswith("in_proj"):
            gate = slice(48, None) if isinstance(block.mixer, Mamba) else slice(48)
            unread.append(parameter[gate])
    for parameter in unread:
        parameter.fill_(float("nan"))
    return sum(parameter.numel() for parameter in unread)


@KINDS
@torch.inference_mode()
def test_bytes_of_weights_are_those_of_the_parameters_used(kind: str) -> None:
    config = config_of(kind)
    backbone, hidden = Backbone(config), torch.randn(1, 1, 24)
    assert layer_cost(config, 0, 4).weight_bytes == 4 * layer_parameters(config, 0)
    place, before = backbone.place([0], [1]), backbone.new_cache(1, 1)
    backbone.advance(hidden, before, 0, 1, place)
    unread = spoil_unread(backbone)
    assert advance_cost(config, 0).weight_bytes == 4 * (layer_parameters(config, 0) - unread)
    spoiled = backbone.new_cache(1, 1)
    backbone.advance(hidden, spoiled, 0, 1, place)
    for one, other in zip(before.states, spoiled.states, strict=True):
        if one is not None and other is not None:
            assert all(map(torch.equal, one.tensors(), other.tensors()))


@KINDS
def test_state_bytes(kind: str) -> None:
    config = replace(config_of(kind), dtype=torch.bfloat16)
    backbone = Backbone(config).to(torch.bfloat16)
    mixer = config.layers[0].mixer
    if isinstance(mixer, AttentionConfig):
        read = backbone.new_cache(1, 5).nbytes()  # five tokens, as many as the window has
        one = backbone.new_cache(1, 1).nbytes()
        assert layer_cost(config, 0, 4).state_bytes == read + one
        assert advance_cost(config, 0).state_bytes == one
        longer = layer_cost(config, 0, 5).state_bytes - read - one
        assert longer == (0 if mixer.window == 5 else one)
    else:
        held = backbone.new_cache(1, 5).nbytes()
        assert layer_cost(config, 0, 4).state_bytes == layer_cost(config, 0, 99).state_bytes
        assert layer_cost(config, 0, 4).state_bytes == advance_cost(config, 0).state_bytes
        assert layer_cost(config, 0, 4).state_bytes == 2 * held


def test_size_of_a_weight() -> None:
    config = config_of("attention", "mamba2")
    full, half = (token_cost(config, 2, 7, size).weight_bytes for size in (4, 2))
    assert full == 2 * half == token_cost(config, 2, 7).weight_bytes
    everything = 4 * (parameters(config) - 49 * 24)  # one row of the embedding is read
    assert full == everything


def test_readout_and_sums() -> None:
    config = config_of("attention")
    assert readout_cost(config).flops == 2 * 24 * 50
    assert readout_cost(config).weight_bytes == 4 * (24 * 50 + 24)
    total = LayerCost(1, 2, 3) + LayerCost(10, 20, 30)
    assert total == LayerCost(11, 22, 33)
    assert total.bytes == 55
