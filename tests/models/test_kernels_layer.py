"""A whole layer in one call of the kernels: bit for bit the kernels one by one."""

import copy
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dynexit.models import Backbone, load_backbone
from dynexit.models.cache import RecurrentState
from dynexit.models.families import parse_config
from dynexit.models.fused import Fused
from dynexit.models.kernels import Layer
from dynexit.models.random_checkpoint import write_checkpoint
from models.quantising import quantise

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no compiler here")

DTYPES = ("float32", "bfloat16")
COMMON = {"vocab_size": 64, "num_hidden_layers": 3, "tie_word_embeddings": False}
TRANSFORMER = {
    **COMMON,
    "hidden_size": 160,
    "intermediate_size": 224,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 64,
}
SSM = {**COMMON, "hidden_size": 96, "state_size": 16, "conv_kernel": 4, "expand": 2}
MAMBA2 = {**SSM, "model_type": "mamba2", "num_heads": 12, "head_dim": 16, "n_groups": 2}
HYBRID = {
    **TRANSFORMER,
    "mamba_n_heads": 10,
    "mamba_d_head": 32,
    "mamba_n_groups": 2,
    "mamba_d_state": 16,
    "mamba_expand": 2,
}
SHAPES: dict[str, dict[str, Any]] = {
    "mistral": {**TRANSFORMER, "model_type": "mistral", "sliding_window": None},
    "window": {**TRANSFORMER, "model_type": "mistral", "sliding_window": 7},
    "qwen3": {**TRANSFORMER, "model_type": "qwen3"},
    "llama": {**TRANSFORMER, "model_type": "llama", "attention_bias": True, "mlp_bias": True},
    "mamba": {**SSM, "model_type": "mamba", "use_bias": True},
    "mamba2": {**MAMBA2, "time_step_limit": [0.01, 0.5]},
    "mamba2-narrow": {**MAMBA2, "num_heads": 24, "head_dim": 8, "residual_in_fp32": False},
    "granite": {
        **HYBRID,
        "model_type": "granitemoehybrid",
        "num_local_experts": 0,
        "num_experts_per_tok": 0,
        "shared_intermediate_size": 224,
        "layer_types": ["mamba", "attention", "mamba"],
        "residual_multiplier": 0.4,
        "position_embedding_type": "nope",
    },
    "jamba": {
        **TRANSFORMER,
        "model_type": "jamba",
        "num_experts": 1,
        "num_experts_per_tok": 1,
        "attn_layer_period": 3,
        "attn_layer_offset": 1,
        "mamba_d_state": 16,
        "mamba_dt_rank": 4,
    },
    "nemotron": {
        **TRANSFORMER,
        "model_type": "nemotron_h",
        "ssm_state_size": 16,
        "mamba_num_heads": 10,
        "mamba_head_dim": 32,
        "n_groups": 2,
        "num_hidden_layers": 4,
        "layers_block_type": ["mamba", "mlp", "attention", "mlp"],
    },
}
STORED = [(name, dtype, None) for name in SHAPES for dtype in DTYPES] + [
    (name, "bfloat16", bits) for name in ("mistral", "mamba", "mamba2") for bits in (8, 4)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("layers")


def backbone_of(name: str, dtype: str, bits: int | None, folder: Path) -> Backbone:
    """Random numbers in every parameter, biases and norms too, stored in so many bits."""
    torch.manual_seed(3)
    if bits is None:
        backbone = Backbone(parse_config(SHAPES[name])).to(getattr(torch, dtype))
    else:
        original, directory = folder / name, folder / f"{name}-{bits}"
        if not original.exists():
            write_checkpoint({**SHAPES[name], "dtype": dtype}, original)
        if not directory.exists():
            quantise(original, directory, bits, group=32)
        backbone = load_backbone(directory)
    generator = torch.Generator().manual_seed(5)
    for parameter in backbone.parameters():
        parameter.requires_grad_(False)
        if parameter.ndim == 1 and parameter.is_floating_point():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return backbone


def one_by_one(patch: pytest.MonkeyPatch) -> None:
    """No whole layers any more."""
    patch.setattr(Fused, "forward", lambda *_: None)
    patch.setattr(Fused, "advance", lambda *_: False)


def ragged_steps(backbone: Backbone, advance: bool = True) -> list[Tensor]:
    """Hidden states and states of steps of all rows, of some, of several tokens, and of a token
    that skips layers."""
    cache, lengths, seen = backbone.new_cache(4, 40), [0] * 4, []
    generator = torch.Generator().manual_seed(4)

    def run(tokens: list[int], which: list[int] | None = None) -> None:
        ids = torch.randint(5, 60, (len(tokens), max(tokens)), generator=generator)
        at = range(4) if which is None else which
        place = backbone.place([lengths[row] for row in at], tokens, which)
        hidden = backbone.run(backbone.embed(ids), cache, 0, backbone.depth, place)
        for row, count, out in zip(at, tokens, hidden, strict=True):
            lengths[row] += count
            seen.append(out)  # with its padding

    run([2, 1, 2, 1])
    run([1, 1, 1, 1])
    run([2, 2, 2, 2])
    run([1, 1], [2, 0])
    run([3, 1], [1, 3])
    if advance:
        place = backbone.place([lengths[2]], [1], [2])
        backbone.advance(backbone.embed(torch.tensor([[7]])), cache, 1, backbone.depth, place)
        lengths[2] += 1
    run([1, 1, 1, 1])
    return seen + [t for state in cache.states if state is not None for t in state.tensors()]


def layers_run(patch: pytest.MonkeyPatch) -> list[bool]:
    """A list that grows with every whole layer: True where it had an output."""
    runs: list[bool] = []
    real = Layer.run

    def note(self: Layer, stream: Tensor, out: Tensor | None, *rest: Any) -> None:
        runs.append(out is not None)
        real(self, stream, out, *rest)

    patch.setattr(Layer, "run", note)
    return runs


@pytest.mark.parametrize(("name", "dtype", "bits"), STORED)
def test_equal_to_one_by_one(
    name: str, dtype: str, bits: int | None, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = backbone_of(name, dtype, bits, folder)
    # by parts, keys of tokens that skip a layer are rotated by PyTorch, which rounds otherwise
    exact = not any("attention" in str(type(b.mixer)).lower() for b in backbone.blocks())
    with torch.inference_mode():
        with monkeypatch.context() as patch:
            runs = layers_run(patch)
            whole = ragged_steps(backbone, advance=exact)
        assert runs.count(True) == 6 * backbone.depth
        one_by_one(monkeypatch)
        parts = ragged_steps(backbone, advance=exact)
    for one, other in zip(whole, parts, strict=True):
        assert one.isfinite().all()
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", SHAPES)
def test_advance_leaves_the_state_of_a_run(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = backbone_of(name, "bfloat16", None, folder)
    runs = layers_run(monkeypatch)
    with torch.inference_mode():
        caches = backbone.new_cache(2, 8), backbone.new_cache(2, 8)
        for step in range(3):
            hidden = backbone.embed(torch.tensor([[7 + step], [9]]))
            for index, block in enumerate(backbone.blocks()):
                place = backbone.place([step, step], [1, 1])
                block(hidden, caches[0].states[index], place)
                block.advance(hidden, caches[1].states[index], place)
    mixers = [block for block in backbone.blocks() if block.mixer is not None]
    assert runs.count(False) == 3 * len(mixers)
    for run, advanced in zip(caches[0].states, caches[1].states, strict=True):
        if run is not None and advanced is not None:
            for one, other in zip(run.tensors(), advanced.tensors(), strict=True):
                assert torch.equal(one, other)


@pytest.mark.parametrize("name", ["mistral", "mamba", "mamba2"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_any_number_of_threads(name: str, threads: int, folder: Path) -> None:
    backbone = backbone_of(name, "bfloat16", None, folder)
    before = torch.get_num_threads()
    with torch.inference_mode():
        expected = ragged_steps(backbone)
        try:
            torch.set_num_threads(threads)
            found = ragged_steps(backbone)
        finally:
            torch.set_num_threads(before)
    for one, other in zip(expected, found, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", ["mistral", "mamba2"])
def test_changed_weights_are_seen(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Moved, replaced and of another type: what was prepared is prepared anew."""
    backbone = backbone_of(name, "float32", None, folder)
    with torch.inference_mode():
        ragged_steps(backbone)
        block = backbone.blocks()[1]
        assert block.mixer_norm is not None
        block.mixer_norm.weight = nn.Parameter(block.mixer_norm.weight * 2, requires_grad=False)
        for projection in block.modules():
            if isinstance(projection, nn.Linear):
                projection.weight.data = projection.weight * 0.5
        found = [ragged_steps(backbone), ragged_steps(copy.deepcopy(backbone))]
        found.append(ragged_steps(pickle.loads(pickle.dumps(backbone))))
        narrow = ragged_steps(backbone.to(torch.bfloat16), advance=False)
        one_by_one(monkeypatch)
        for one, other in zip(narrow, ragged_steps(backbone, advance=False), strict=True):
            assert torch.equal(one, other)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize("name", ["mamba", "mamba2"])
def test_trails_get_the_inputs(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = backbone_of(name, "bfloat16", None, folder)

    def remembered() -> list[Tensor]:
        cache = backbone.new_cache(1, 16)
        backbone.leave_trails(cache, 4)
        place = backbone.place([0], [3])
        hidden = backbone.embed(torch.tensor([[7, 8, 9]]))
        states = [s for s in cache.states if isinstance(s, RecurrentState)]
        for state in states:
            assert state.trail is not None
            state.trail.begin(0, 0, state)
        backbone.run(hidden, cache, 0, 2, place)
        backbone.advance(hidden, cache, 2, 3, place)
        found = []
        for state in states:
            assert state.trail is not None
            inputs = state.trail.back(0, 2, state)
            assert inputs is not None
            found += [inputs.clone(), state.conv.clone(), state.ssm.clone()]
        return found

    with torch.inference_mode():
        whole = remembered()
        one_by_one(monkeypatch)
        for one, other in zip(whole, remembered(), strict=True):
            assert torch.equal(one, other)


def test_left_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients, many tokens of several texts, and options that a layer's kernels don't have."""
    runs = layers_run(monkeypatch)
    gelu = parse_config({**SHAPES["mistral"], "hidden_act": "gelu"})
    falcon = parse_config({**SHAPES["mamba"], "model_type": "falcon_mamba"})
    for backbone in (Backbone(gelu), Backbone(falcon)):
        with torch.inference_mode():
            ragged_steps(backbone, advance=False)
    assert not runs
    backbone = Backbone(parse_config(SHAPES["mistral"]))
    ragged_steps(backbone)
    place = backbone.place([0, 0], [200, 200])
    with torch.inference_mode():
        hidden = backbone.embed(torch.arange(200).expand(2, 200) % 60)
        backbone.run(hidden, backbone.new_cache(2, 200), 0, 3, place)
    assert not runs
