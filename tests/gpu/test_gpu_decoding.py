"""Whole answers, judges, training and quantised models on a CUDA device, against the CPU's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from checkpoints import make_checkpoint
from dynexit.exits.choice import Wish, choose
from dynexit.exits.exit_set import load_exit_set
from dynexit.exits.judges import DYNAMAX_JUDGES, JUDGES, TRAINED_JUDGES
from dynexit.inference.generate import generate
from dynexit.inference.generation import Generation
from dynexit.inference.likelihood import log_likelihood
from dynexit.inference.settings import GenerationSettings
from dynexit.models import Model, load_backbone, load_model
from dynexit.models.quantization import QuantizationConfig
from dynexit.models.quantize import plan_quantization, write_quantized
from dynexit.training import ExitRecipe, train_exits
from training.tiny import prompts_file, tiny_model

DEVICE = "cuda"
PROMPTS = ["Question: What is the capital of France?\nAnswer:", "Question: Who", "Ann went to"]
SETTINGS = GenerationSettings(max_new_tokens=16, repetition_penalty=1.2)
STATES = {
    "mistral": ("copy", "propagate", "recompute"),
    "mamba2": ("freeze", "propagate", "recompute"),
}


@pytest.fixture(scope="module", params=STATES)
def pair(request: pytest.FixtureRequest) -> tuple[Model, Model]:
    """A reference model in fp32 on the CPU and on the GPU."""
    name = f"reference:{request.param}"
    return load_model(name, torch.float32), load_model(name, torch.float32, DEVICE)


def assert_same(ours: list[Generation], theirs: list[Generation]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert one.text == other.text
        assert [t.exit_layer for t in one.tokens] == [t.exit_layer for t in other.tokens]


@pytest.mark.parametrize(
    "judge",
    [kind for kind in JUDGES if kind in DYNAMAX_JUDGES or kind not in (*TRAINED_JUDGES, "fixed")],
)
def test_every_judge(pair: tuple[Model, Model], judge: str) -> None:
    on_cpu, on_gpu = (
        generate(model, PROMPTS, SETTINGS, choose(model, Wish(judge=judge)).policy)
        for model in pair
    )
    assert_same(on_gpu, on_cpu)


@pytest.mark.parametrize("number", range(3))
def test_every_state_policy(pair: tuple[Model, Model], number: int) -> None:
    state = STATES[pair[0].backbone.config.family][number]
    wish = Wish(judge="mamba", threshold=0.7, state=state)
    on_cpu, on_gpu = (
        generate(model, PROMPTS, SETTINGS, choose(model, wish).policy) for model in pair
    )
    assert_same(on_gpu, on_cpu)


def test_sampling(pair: tuple[Model, Model]) -> None:
    settings = replace(SETTINGS, temperature=0.8, top_p=0.9, top_k=40, seed=3)
    on_cpu, on_gpu = (generate(model, PROMPTS, settings) for model in pair)
    assert_same(on_gpu, on_cpu)


def test_likelihoods(pair: tuple[Model, Model]) -> None:
    pairs = [(PROMPTS[0], " Paris"), (PROMPTS[0], " Rome"), (PROMPTS[2], " the shop")]
    for policy in (None, "mamba"):
        on_cpu, on_gpu = (
            log_likelihood(
                model,
                pairs,
                policy and choose(model, Wish(judge=policy)).policy,  # type: ignore[arg-type]
            )
            for model in pair
        )
        for ours, theirs in zip(on_gpu, on_cpu, strict=True):
            assert ours.total == pytest.approx(theirs.total, abs=1e-3)
            assert ours.exit_layers == theirs.exit_layers


@pytest.mark.parametrize("kind", ["mistral", "mamba2"])
@pytest.mark.parametrize("judge", ["linear", "ffn", "mamba"])
def test_judges_are_trained(kind: str, judge: str, tmp_path: Path) -> None:
    model = tiny_model(kind)
    model.backbone.to(DEVICE)
    recipe = ExitRecipe(
        judge=judge, layers=(1, 3), max_new_tokens=4, epochs=2, shard_tokens=60, translators=True
    )
    train_exits(model, recipe, tmp_path / "exits", prompts_file(tmp_path / "p.txt"))
    exits = load_exit_set(tmp_path / "exits", model.backbone)
    assert exits.layers == (1, 3)
    assert next(exits.judge.parameters()).device.type == "cuda"  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["mistral", "mamba2"])
@pytest.mark.parametrize("bits", [4, 8])
def test_quantised_models(kind: str, bits: int, tmp_path: Path) -> None:
    source = make_checkpoint(tmp_path / "whole", kind)
    plan = plan_quantization(source, QuantizationConfig(bits, 32))
    write_quantized(plan, tmp_path / "small", lambda: None)
    on_cpu = load_backbone(tmp_path / "small", torch.float32)
    on_gpu = load_backbone(tmp_path / "small", torch.float32, DEVICE)
    ids = torch.tensor([[5, 99, 7, 200, 31]])
    with torch.inference_mode():
        logits = on_gpu(ids.to(DEVICE)).cpu()
        torch.testing.assert_close(logits, on_cpu(ids), atol=1e-3, rtol=1e-3)
