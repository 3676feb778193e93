"""Fitting learns what can be learnt, and an interrupted fit comes to the same end."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dynexit.errors import UserError
from dynexit.exits.judges import TRAINED_JUDGES, TrainedJudge, build_trained
from dynexit.training import fit as fitting
from dynexit.training.fit import fit
from dynexit.training.measure import NEVER, auroc, validate
from dynexit.training.recipe import ExitRecipe
from dynexit.training.store import Store
from training.stores import HIDDEN, history_store, separable_store

RECIPE = ExitRecipe(epochs=6, rate=1e-2, batch=16)


def fitted(kind: str, store: Store, recipe: ExitRecipe, checkpoint: Path) -> TrainedJudge:
    torch.manual_seed(0)
    judge = build_trained(kind, store.layers, HIDDEN)
    fit(judge, store, recipe, checkpoint)
    return judge


@pytest.mark.parametrize("kind", TRAINED_JUDGES)
def test_separable_states_are_learnt_at_every_exit(kind: str, tmp_path: Path) -> None:
    # only from states that are the same can a predictor foretell later exits
    store = separable_store(tmp_path, sequences=150, settled=kind == "predictor")
    recipe = replace(RECIPE, match=False, rate=3e-2)
    judge = fitted(kind, store, recipe, tmp_path / "fit.safetensors")
    for scores, labels in validate(judge, store, 1, [NEVER] * 3):
        area = auroc(scores, labels)
        assert area is not None
        assert area > 0.95
        assert ((scores >= 0.5) == labels).mean() > 0.85


def test_only_a_recurrent_judge_learns_from_the_past(tmp_path: Path) -> None:
    store = history_store(tmp_path)
    areas = {}
    for kind in TRAINED_JUDGES:
        recipe = replace(RECIPE, epochs=15)
        judge = fitted(kind, store, recipe, tmp_path / f"{kind}.safetensors")
        ((scores, labels),) = validate(judge, store, 1, [NEVER])
        areas[kind] = auroc(scores, labels) or 0.0
    assert areas["mamba"] > 0.95
    assert max(area for kind, area in areas.items() if kind != "mamba") < 0.75


def test_scores_are_probabilities_for_unbalanced_labels(tmp_path: Path) -> None:
    """With a third of the labels turned at random no judge can be sure, and none claims to be."""
    store = separable_store(tmp_path, sequences=150, flipped=0.3)
    recipe = replace(RECIPE, match=False, epochs=8)
    judge = fitted("linear", store, recipe, tmp_path / "fit.safetensors")
    for scores, labels in validate(judge, store, 1, [NEVER] * 3):
        sure = scores >= 0.6
        assert labels[sure].mean() == pytest.approx(scores[sure].mean(), abs=0.1)


def test_relaxed_labels_need_no_new_store(tmp_path: Path) -> None:
    store = separable_store(tmp_path)  # wrong tokens have rank 3
    assert all(w == pytest.approx(1.0, abs=0.5) for w in fitting._balances(store, 3))
    assert fitting._balances(store, 4) == pytest.approx((0.1, 0.1, 0.1))


def test_the_loss_decays_linearly_with_the_exit() -> None:
    objective = fitting._Objective(1, (1.0, 1.0, 1.0, 1.0))
    logits, ranks = torch.tensor([0.3, -1.0]), torch.tensor([0, 5])
    losses = [float(objective.loss(exit, logits, ranks)) for exit in range(4)]
    plain = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.tensor([1.0, 0.0]))
    assert losses == pytest.approx([float(plain) * w for w in (2.0, 1.5, 1.0, 0.5)])


@pytest.mark.parametrize("kind", ["linear", "mamba"])
@pytest.mark.parametrize("epoch", [0, 2])
def test_an_interrupted_fit_comes_to_the_same_end(
    kind: str, epoch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = separable_store(tmp_path, sequences=20, flipped=0.2)
    recipe = replace(RECIPE, epochs=4)
    whole = fitted(kind, store, recipe, tmp_path / "whole.safetensors")
    run_epoch = fitting._epoch

    def interrupt(*arguments: object) -> None:
        run_epoch(*arguments)  # type: ignore[arg-type]
        if arguments[-1] == epoch:
            raise KeyboardInterrupt

    monkeypatch.setattr(fitting, "_epoch", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fitted(kind, store, recipe, tmp_path / "cut.safetensors")
    monkeypatch.setattr(fitting, "_epoch", run_epoch)
    again = fitted(kind, store, recipe, tmp_path / "cut.safetensors")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


def test_a_damaged_checkpoint_is_told(tmp_path: Path) -> None:
    store = separable_store(tmp_path, sequences=20)
    path = tmp_path / "fit.safetensors"
    fitted("linear", store, replace(RECIPE, epochs=1), path)
    with pytest.raises(UserError, match=r"fit\.safetensors is damaged.*remove it"):
        fitted("ffn", store, RECIPE, path)  # another judge's
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(UserError, match=r"fit\.safetensors is damaged.*remove it"):
        fitted("linear", store, RECIPE, path)
