"""Collections in trouble: changed on disk, damaged, too large for a budget, made by other hands."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from dynexit.errors import UserError
from dynexit.training import ExitRecipe, Means, collect_store, train_exits
from dynexit.training.collect import collect
from dynexit.training.collect_settings import CollectSettings
from dynexit.training.store import TRAINING, VALIDATION, Store
from training.test_collect import SAMPLES, SETTINGS
from training.tiny import prompts_file, tiny_model

RECIPE = ExitRecipe(layers=(1, 3), max_new_tokens=4, epochs=1, shard_tokens=60)


def bytes_of(store: Store) -> list[bytes]:
    return [store.path(index).read_bytes() for index in range(store.shards)]


@pytest.mark.parametrize("how", ["one number", "cut short", "of another collection", "gone"])
def test_a_shard_that_changed_is_named_and_collected_again(
    how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_model("mamba2")
    store = collect(model, SAMPLES, SETTINGS, tmp_path)
    before, path = bytes_of(store), store.path(1)
    if how == "one number":
        tensors = load_file(path)
        tensors["ranks"][0, 0] += 1
        with safe_open(path, "pt") as file:
            said = file.metadata()
        save_file(tensors, path, said)
    elif how == "cut short":
        path.write_bytes(before[1][:200])
    elif how == "of another collection":
        other = collect(model, SAMPLES[:-1], SETTINGS, tmp_path / "other")
        path.write_bytes(other.path(1).read_bytes())
    else:
        path.unlink()
    times = [store.path(index).stat().st_mtime_ns for index in range(store.shards) if index != 1]
    again = collect(model, SAMPLES, SETTINGS, tmp_path)
    assert bytes_of(again) == before
    assert times == [
        store.path(index).stat().st_mtime_ns for index in range(store.shards) if index != 1
    ]
    told = capsys.readouterr().err
    assert ("shard-00001.safetensors has changed" in told) == (how != "gone")
    assert "shard-00000" not in told


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"digest": "0"}', ""])
def test_a_damaged_manifest_is_named(content: str, tmp_path: Path) -> None:
    store = collect(tiny_model("mistral"), SAMPLES, SETTINGS, tmp_path)
    (store.directory / "manifest.json").write_text(content)
    with pytest.raises(UserError) as told:
        collect(tiny_model("mistral"), SAMPLES, SETTINGS, tmp_path)
    assert str(store.directory) in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("how", ["one number", "cut short", "gone"])
def test_a_division_that_changed_is_named_and_made_again(
    how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says what a shard is to hold, so a changed one may not be believed."""
    model = tiny_model("mistral")
    store = collect(model, SAMPLES, SETTINGS, tmp_path)
    path, before = store.directory / "division.safetensors", bytes_of(store)
    whole = path.read_bytes()
    if how == "one number":
        path.write_bytes(whole[:-8] + b"\0" * 8)  # of the last tensor
    elif how == "cut short":
        path.write_bytes(whole[:50])
    else:
        path.unlink()
    store.path(0).unlink()
    again = collect(model, SAMPLES, SETTINGS, tmp_path)
    assert path.read_bytes() == whole
    assert bytes_of(again) == before
    told = capsys.readouterr().err
    assert ("division.safetensors has changed" in told) == (how != "gone")


def test_a_second_judge_finds_what_was_collected(tmp_path: Path) -> None:
    """With --collection nothing is collected again, and settings of the fit make no new one."""
    model, data = tiny_model("mistral"), prompts_file(tmp_path / "p.txt", 20)
    means = Means(collections=tmp_path / "kept")
    train_exits(model, replace(RECIPE, judge="linear"), tmp_path / "a", data, means=means)
    (place,) = (tmp_path / "kept").glob("store-*")
    shards = sorted(place.glob("shard-*"))
    times = [path.stat().st_mtime_ns for path in shards]
    for number, change in enumerate(({"judge": "ffn"}, {"top_k": 3}, {"epochs": 2})):
        recipe = replace(RECIPE, **change)  # type: ignore[arg-type]
        train_exits(model, recipe, tmp_path / f"b{number}", data, means=means)
    assert [path.stat().st_mtime_ns for path in shards] == times
    assert list((tmp_path / "kept").glob("store-*")) == [place]


def test_other_settings_lie_beside_it(tmp_path: Path) -> None:
    model, data = tiny_model("mistral"), prompts_file(tmp_path / "p.txt", 20)
    for tokens in (3, 4):
        recipe = replace(RECIPE, max_new_tokens=tokens)
        collect_store(model, recipe, tmp_path / "kept", data)
    assert len(list((tmp_path / "kept").glob("store-*"))) == 2


@pytest.mark.parametrize("subsample", ["texts", "tokens"])
def test_a_disk_budget_keeps_both_parts(subsample: str, tmp_path: Path) -> None:
    model = tiny_model("mistral")
    samples = [replace(SAMPLES[n % 11], group=n) for n in range(60)]
    whole = collect(model, samples, SETTINGS, tmp_path / "whole")
    size = sum(len(content) for content in bytes_of(whole))
    settings = replace(SETTINGS, disk_budget=size // 3, subsample=subsample)
    store = collect(model, samples, settings, tmp_path / "third")
    tokens = settings.token_bytes(model.backbone.config.hidden)
    kept = sum(store.shard(index).hidden.shape[1] for index in range(store.shards))
    assert kept * tokens <= size // 3
    for part in (TRAINING, VALIDATION):
        batches = store.batches(part, 8, 400, prompts=False, seed=0)
        assert sum(int(batch.judged.sum()) for batch in batches) > 0


def test_a_budget_smaller_than_a_text(tmp_path: Path) -> None:
    settings = replace(SETTINGS, disk_budget=100)
    with pytest.raises(UserError) as told:
        collect(tiny_model("mistral"), SAMPLES, settings, tmp_path)
    assert "budget" in str(told.value)
    assert "\n" not in str(told.value)


def test_fewer_texts_than_a_batch(tmp_path: Path) -> None:
    """Two texts train and validate a judge; one is refused."""
    model = tiny_model("mistral")
    data = prompts_file(tmp_path / "two.txt", 2)
    recipe = replace(RECIPE, judge="linear", batch=512)
    assert len(train_exits(model, recipe, tmp_path / "out", data)) == 2
    with pytest.raises(UserError, match="one text is too few"):
        train_exits(model, recipe, tmp_path / "o", prompts_file(tmp_path / "one.txt", 1))


def test_the_manifest_says_what_the_collection_is(tmp_path: Path) -> None:
    settings = CollectSettings((1, 3), 6, shard_tokens=70)
    store = collect(tiny_model("mamba2"), SAMPLES, settings, tmp_path)
    manifest = json.loads((store.directory / "manifest.json").read_text())
    assert manifest["samples"] == len(SAMPLES)
    assert manifest["backbone"]["family"] == "mamba2"
    assert store.directory.name == f"store-{manifest['digest'][:16]}"
