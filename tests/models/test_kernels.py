"""Our own kernels against PyTorch's operations: the same numbers, alone and among others.

They are what decoding uses; with gradients on, the same modules compute with PyTorch.
"""

import itertools
import os
import shutil
import subprocess
import sys
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dynexit.models import Backbone, kernels
from dynexit.models.families import parse_config
from dynexit.models.fused import Fused
from dynexit.models.kernels import Matrix
from dynexit.models.norm import rms
from dynexit.models.projection import Projection, together

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no compiler here")

DTYPES = (torch.float32, torch.bfloat16)
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}

COMMON = {"vocab_size": 64, "num_hidden_layers": 3, "tie_word_embeddings": False}
TRANSFORMER = {
    **COMMON,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 64,
}
SSM = {**COMMON, "hidden_size": 32, "state_size": 16, "conv_kernel": 4, "expand": 2}
SHAPES: dict[str, dict[str, Any]] = {
    "mistral": {**TRANSFORMER, "model_type": "mistral", "sliding_window": None},
    "window": {**TRANSFORMER, "model_type": "mistral", "sliding_window": 7},
    "qwen3": {**TRANSFORMER, "model_type": "qwen3"},
    "llama": {**TRANSFORMER, "model_type": "llama", "attention_bias": True, "mlp_bias": True},
    "mamba": {**SSM, "model_type": "mamba", "use_bias": True},
    "mamba2": {
        **SSM,
        "model_type": "mamba2",
        "num_heads": 4,
        "head_dim": 16,
        "n_groups": 2,
        "time_step_limit": [0.01, 0.5],
    },
}


def test_they_are_compiled() -> None:
    assert kernels.library() is not None, kernels.describe()


def close(ours: Tensor, theirs: Tensor, dtype: torch.dtype) -> None:
    scale = max(1.0, float(theirs.detach().abs().max()))
    torch.testing.assert_close(
        ours.double(), theirs.double(), rtol=0, atol=TOLERANCE[dtype] * scale
    )


def numbers(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@given(
    tokens=st.integers(1, kernels.MOST_TOKENS) | st.integers(1, 70),
    rows=st.integers(1, 70),
    columns=st.integers(1, 300) | st.sampled_from((32, 96, 128, 288)),
    dtype=st.sampled_from(DTYPES),
    biased=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=100, deadline=None)
def test_product(
    tokens: int, rows: int, columns: int, dtype: torch.dtype, biased: bool, seed: int
) -> None:
    """Whole blocks of 32 columns go by the processor's matrix unit, where it has one."""
    x, w = numbers(tokens, columns, seed=seed, dtype=dtype), numbers(rows, columns, seed=seed + 1)
    w = w.to(dtype)
    bias = numbers(rows, seed=seed + 2, dtype=dtype) if biased else None
    exact = F.linear(x.double(), w.double(), None if bias is None else bias.double())
    with torch.inference_mode():
        product = kernels.multiply(x, Matrix(w, bias))[0]
        assert product.dtype == dtype
        close(product, exact, dtype)
        for token in range(tokens):  # no token's result depends on its neighbours
            assert torch.equal(kernels.multiply(x[token], Matrix(w, bias))[0], product[token])


@pytest.mark.skipif(kernels.most_tokens(torch.bfloat16) <= 8, reason="no matrix unit here")
def test_pytorch_goes_on_after_a_tile() -> None:
    """Its own kernels for the unit take for granted what they set it to."""
    x, w = numbers(64, 256, seed=0, dtype=torch.bfloat16), numbers(96, 256, seed=1).bfloat16()
    with torch.inference_mode():
        before = F.linear(x, w)
        kernels.multiply(x[:5], Matrix(w[:23]))
        assert torch.equal(F.linear(x, w), before)


@pytest.mark.parametrize("dtype", DTYPES)
def test_projection_and_its_rows(dtype: torch.dtype) -> None:
    layer = Projection(40, 24).to(dtype)
    x = numbers(2, 3, 40, seed=0, dtype=dtype)
    with torch.inference_mode():
        ours, part = layer(x), layer.rows(x, 5, 11)
    assert torch.equal(part, ours[..., 5:11])
    close(ours, F.linear(x.double(), layer.weight.double(), layer.bias.double()).detach(), dtype)


def test_several_at_once() -> None:
    layers = [Projection(40, rows, bias=rows != 8) for rows in (24, 8, 1)]
    x = numbers(3, 40, seed=0)
    with torch.inference_mode():
        for one, layer in zip(together(x, *layers), layers, strict=True):
            assert torch.equal(one, layer(x))
    for one, layer in zip(together(x, *layers), layers, strict=True):
        assert torch.equal(one, F.linear(x, layer.weight, layer.bias))


@pytest.mark.parametrize("types", list(itertools.product(DTYPES, DTYPES)))
@pytest.mark.parametrize("size", [5, 64, 100])
def test_norm(types: tuple[torch.dtype, torch.dtype], size: int) -> None:
    x, weight = numbers(3, size, seed=1, dtype=types[0]) * 5, numbers(size, seed=2, dtype=types[1])
    with torch.inference_mode():
        close(kernels.rms_norm(x, weight, 1e-5), rms(x.to(types[1]), weight, 1e-5), types[1])


def random_backbone(name: str, dtype: torch.dtype) -> Backbone:
    torch.manual_seed(3)
    backbone = Backbone(parse_config(SHAPES[name])).to(dtype).eval()
    for parameter in backbone.parameters():
        parameter.requires_grad_(False)
    return backbone


def read_and_step(backbone: Backbone, rows: tuple[int, ...] = (0, 1, 2)) -> list[Tensor]:
    """Hidden states of ragged prompts, of steps of some rows, and of a call of three tokens."""
    cache = backbone.new_cache(4, 40)
    generator = torch.Generator().manual_seed(4)
    lengths, seen = [6, 11, 9, 3], []

    def run(tokens: list[int], which: list[int] | None) -> None:
        ids = torch.randint(5, 60, (len(tokens), max(tokens)), generator=generator)
        at = range(4) if which is None else which
        place = backbone.place([lengths[row] for row in at], tokens, which)
        hidden = backbone.run(backbone.embed(ids), cache, 0, backbone.depth, place)
        for row, count, out in zip(at, tokens, hidden, strict=True):
            lengths[row] += count
            seen.append(out[:count])

    lengths, prompts = [0] * 4, lengths
    run(prompts, None)
    for _ in range(3):
        run([1, 1, 1, 1], None)
    run([1, 1], [2, 0])
    run([3, 1], [1, 3])  # tokens that waited, as recompute runs them
    place = backbone.place([lengths[2]], [1], [2])
    backbone.advance(backbone.embed(torch.tensor([[7]])), cache, 1, 3, place)
    lengths[2] += 1
    run([1, 1, 1, 1], None)
    return seen


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SHAPES)
def test_backbone(name: str, dtype: torch.dtype) -> None:
    backbone = random_backbone(name, dtype)
    with torch.no_grad():
        ours = read_and_step(backbone)
    with torch.enable_grad():
        theirs = read_and_step(backbone)
    scale = 1 if dtype == torch.float32 else 8  # roundings add up over the layers
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(
            mine.float(), other.float(), rtol=0, atol=TOLERANCE[dtype] * scale
        )


@pytest.mark.parametrize("name", SHAPES)
def test_kernels_are_used(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison above is none if both sides are PyTorch's."""
    used = []
    for function in ("attend", "conv_step", "ssd_step", "selective_step"):
        real = getattr(kernels, function)

        def note(*args: Any, real: Any = real, **more: Any) -> Any:
            used.append(real.__name__)
            return real(*args, **more)

        monkeypatch.setattr(kernels, function, note)
    monkeypatch.setattr(Fused, "forward", lambda *_: None)  # a layer's kernels one by one
    with torch.no_grad():
        read_and_step(random_backbone(name, torch.float32))
    mine = {"mamba": "selective_step", "mamba2": "ssd_step"}.get(name, "attend")
    assert mine in used


@given(name=st.sampled_from(tuple(SHAPES)), position=st.integers(0, 36), seed=st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_a_token_alone_and_in_a_call_of_several(name: str, position: int, seed: int) -> None:
    """Bit for bit: verifying drafts gives what decoding them one by one would."""
    backbone = random_backbone(name, torch.bfloat16)
    ids = torch.randint(5, 60, (1, 40), generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        together, alone = backbone.new_cache(1, 48), backbone.new_cache(1, 48)
        for cache in (together, alone):
            if position:
                place = backbone.place([0], [position])
                backbone.run(backbone.embed(ids[:, :position]), cache, 0, 3, place)
        few = ids[:, position : position + 4]
        place = backbone.place([position], [few.shape[1]])
        whole = backbone.run(backbone.embed(few), together, 0, 3, place)
        for i in range(few.shape[1]):
            place = backbone.place([position + i], [1])
            one = backbone.run(backbone.embed(few[:, i : i + 1]), alone, 0, 3, place)
            assert torch.equal(one[:, 0], whole[:, i])


@pytest.mark.parametrize("variable", [{"DYNEXIT_KERNELS": "off"}, {"CC": "false", "PATH": ""}])
def test_without_them(variable: dict[str, str]) -> None:
    """Switched off, or on a machine without a compiler, everything is PyTorch's."""
    program = (
        "import torch; from dynexit.models import kernels; "
        "from dynexit.models.projection import Projection; "
        "assert kernels.library() is None; print(kernels.describe()); "
        "torch.set_grad_enabled(False); print(Projection(3, 2)(torch.ones(1, 3)).shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **variable},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "PyTorch" in done.stdout
    assert "[1, 2]" in done.stdout
