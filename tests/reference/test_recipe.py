"""The recipe of the reference pair, on a few steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dynexit.models import load_model
from dynexit.reference.pair import reference_directory
from dynexit.reference.recipe import train as training
from dynexit.reference.recipe.export import export
from dynexit.reference.recipe.muon import BatchedMuon, orthogonal
from dynexit.reference.recipe.recipes import RECIPES
from dynexit.reference.recipe.train import Recipe, train

TOKENIZER = reference_directory("mistral") / "tokenizer.json"
SHAPES = ((8, 16), (16, 8), (8, 16), (8, 8))


@pytest.fixture
def unreported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answering 300 questions at the end is no part of these tests."""
    monkeypatch.setattr(training, "_report", lambda *_: "not measured")


def few_steps(model: str, steps: int) -> Recipe:
    return replace(
        RECIPES["cpu"][model],
        steps=steps,
        rows=1,
        width=256,
        save_every=2,
        report_every=10**6,
        look_back_at=None,
        compiled=False,
    )


def test_muon_in_batches_is_torchs_muon() -> None:
    torch.manual_seed(0)
    begin = [torch.randn(shape) for shape in SHAPES]
    ours = [torch.nn.Parameter(one.clone()) for one in begin]
    theirs = [torch.nn.Parameter(one.clone()) for one in begin]
    batched = BatchedMuon(ours, lr=0.01, weight_decay=0.02)
    single = torch.optim.Muon(theirs, lr=0.01, weight_decay=0.02, adjust_lr_fn="match_rms_adamw")
    for step in range(4):
        for index, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            skipped = step == 1 and index == 2  # a layer that was dropped has no gradient
            a.grad = None if skipped else torch.randn(a.shape)
            b.grad = None if a.grad is None else a.grad.clone()
        batched.step()
        single.step()  # type: ignore[no-untyped-call]
    for a, b in zip(ours, theirs, strict=True):
        assert (a - b).abs().max() < 2e-3  # bf16 products, summed in another order
        assert (a - b).abs().mean() < 3e-4
    moved = [(a - one).abs().mean() for a, one in zip(ours, begin, strict=True)]
    assert min(moved) > 0.002


@pytest.mark.parametrize("shape", [(3, 32, 32), (2, 16, 40), (2, 40, 16)])
def test_orthogonal_has_singular_values_near_one(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(1)
    values = torch.linalg.svdvals(orthogonal(torch.randn(shape)).float())
    assert values.min() > 0.3
    assert values.max() < 1.4


@pytest.mark.usefixtures("unreported")
@pytest.mark.parametrize("model", ["mistral", "mamba2"])
def test_training_goes_on_where_it_was_stopped(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, state = few_steps(model, 4), tmp_path / "stopped.safetensors"
    whole = train(recipe, TOKENIZER, tmp_path / "whole.safetensors")

    def stop(*_: object) -> Tensor:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "_report", stop)  # the first thing after a save
        with pytest.raises(KeyboardInterrupt):
            train(replace(recipe, report_every=2), TOKENIZER, state)
    resumed = train(recipe, TOKENIZER, state)
    for name, parameter in whole.named_parameters():
        assert torch.equal(parameter, resumed.get_parameter(name)), name


@pytest.mark.usefixtures("unreported")
def test_export_is_a_checkpoint_of_the_family(tmp_path: Path) -> None:
    recipe = few_steps("mamba2", 2)
    backbone = train(recipe, TOKENIZER, tmp_path / "state.safetensors")
    export(backbone, "mamba2", TOKENIZER, tmp_path / "out")
    loaded = load_model(str(tmp_path / "out"))
    assert loaded.backbone.depth == 24
