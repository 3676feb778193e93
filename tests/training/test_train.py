"""From a tiny model to an exit set that decoding can use."""

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dynexit.errors import UserError
from dynexit.exits.exit_set import load_exit_set
from dynexit.training import ExitRecipe, collect_store, fit_exits, train_exits
from dynexit.training import fit as fitting
from training.tiny import prompts_file, tiny_model

RECIPE = ExitRecipe(layers=(1, 3), max_new_tokens=4, epochs=2, shard_tokens=60)


@pytest.mark.parametrize("kind", ["mistral", "mamba2"])
@pytest.mark.parametrize("judge", ["linear", "mamba"])
def test_training_makes_an_exit_set(kind: str, judge: str, tmp_path: Path) -> None:
    model = tiny_model(kind)
    recipe = replace(RECIPE, judge=judge)
    metrics = train_exits(model, recipe, tmp_path / "exits", prompts_file(tmp_path / "p.txt"))
    assert [m.layer for m in metrics] == [1, 3]
    exits = load_exit_set(tmp_path / "exits", model.backbone)
    assert exits.judge.kind == judge
    assert exits.layers == (1, 3)
    assert exits.state == "recompute"
    assert list(exits.metrics) == metrics
    assert exits.recipe["top_k"] == 1
    assert not (tmp_path / "exits.work").exists()


def test_translators_make_labels_better_and_are_saved(tmp_path: Path) -> None:
    model = tiny_model("mistral")
    data = prompts_file(tmp_path / "p.txt", 40)
    recipe = replace(RECIPE, judge="linear", translators=True)
    store = collect_store(model, recipe, tmp_path / "work", data)
    fit_exits(model, store, recipe, tmp_path / "exits", tmp_path / "work")
    exits = load_exit_set(tmp_path / "exits", model.backbone)
    assert exits.translators is not None
    assert all(m.weight.abs().max() > 0 for m in exits.translators.maps)
    (place,) = (tmp_path / "work").glob("fit-*")
    translated = store.relabelled(place)

    def right(store_: object) -> int:
        assert isinstance(store_, type(store))
        shards = [store_.shard(i, states=False) for i in range(store_.shards)]
        return sum(int((s.ranks[:, s.judged] == 0).sum()) for s in shards)

    assert right(translated) > right(store)


def test_one_store_serves_several_judges(tmp_path: Path) -> None:
    model = tiny_model("mamba2")
    work = tmp_path / "work"
    store = collect_store(model, RECIPE, work, prompts_file(tmp_path / "p.txt"))
    for judge in ("linear", "ffn", "mamba"):
        fit_exits(model, store, replace(RECIPE, judge=judge), tmp_path / judge, work)
        assert load_exit_set(tmp_path / judge, model.backbone).judge.kind == judge


def test_ctrl_c_tells_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, data = tiny_model("mistral"), prompts_file(tmp_path / "p.txt")
    whole = train_exits(model, RECIPE, tmp_path / "whole", data)
    run_epoch = fitting._epoch

    def interrupt(*arguments: object) -> None:
        if arguments[-1] == 1:
            raise KeyboardInterrupt
        run_epoch(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(fitting, "_epoch", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train_exits(model, RECIPE, tmp_path / "cut", data)
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.strip().splitlines() == [
        f"interrupted; run the same command again to go on from {tmp_path / 'cut.work'}"
    ]
    assert not (tmp_path / "cut").exists()
    monkeypatch.setattr(fitting, "_epoch", run_epoch)
    assert train_exits(model, RECIPE, tmp_path / "cut", data) == whole
    weights = [(tmp_path / name / "exits.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]
    assert not (tmp_path / "cut.work").exists()


def test_a_full_disk_leaves_no_half_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = tiny_model("mistral"), prompts_file(tmp_path / "p.txt")
    replace_ = os.replace

    def full(source: Path, target: Path) -> None:
        if Path(target).name == "exits":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace_(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match="disk is full"):
        train_exits(model, RECIPE, tmp_path / "exits", data)
    assert not (tmp_path / "exits").exists()
    monkeypatch.setattr(os, "replace", replace_)
    train_exits(model, RECIPE, tmp_path / "exits", data)
    assert (tmp_path / "exits" / "exits.json").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": (4,)}, "exit layer 4 is outside the model; give layers from 1 to 3"),
        ({"judge": "margin"}, "'margin' needs no training"),
        ({"judge": "oracle"}, "no judge is called 'oracle'"),
        ({"state": "forget"}, "'forget' is not known"),
        ({"options": {"width": 3}}, "does not take these options: width"),
    ],
)
def test_mistakes_are_told_before_any_work(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        train_exits(tiny_model("mistral"), replace(RECIPE, **change), tmp_path / "exits")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [("top_k", 0), ("top_k", 256), ("prompts", 1), ("rate", float("nan")), ("precision", 0.0)],
)
def test_a_recipe_refuses_what_makes_no_sense(field: str, value: float) -> None:
    with pytest.raises(UserError, match=f"{field} is"):
        replace(RECIPE, **{field: value})


def test_training_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    model = tiny_model("mistral")
    before = torch.get_rng_state()
    train_exits(model, RECIPE, tmp_path / "exits", prompts_file(tmp_path / "p.txt"))
    assert torch.equal(torch.get_rng_state(), before)
