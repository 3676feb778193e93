"""Exit sets: written, read back the same, and refused where they do not belong or are broken."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dynexit.errors import UserError
from dynexit.exits.exit_set import ExitMetrics, ExitSet, load_exit_set, save_exit_set
from dynexit.exits.fingerprint import fingerprint
from dynexit.exits.judges import JUDGES, build_judge
from dynexit.exits.translator import Translators
from exits.judging import evidence
from training.tiny import backbone

LAYERS, HIDDEN = (1, 3), 32
METRICS = (ExitMetrics(1, 0.5, None, 0.25), ExitMetrics(3, 0.75, 0.875, 0.5))


def exit_set(kind: str, translators: Translators | None = None) -> ExitSet:
    options = {"width": 7} if kind == "ffn" else None
    judge = build_judge(kind, LAYERS, HIDDEN, options=options)
    return ExitSet(judge, (0.25, 1.01), "propagate", translators, {"top_k": 3}, METRICS)


@pytest.mark.parametrize("kind", JUDGES)
def test_round_trip(kind: str, tmp_path: Path) -> None:
    model = backbone("mistral")
    saved = exit_set(kind)
    save_exit_set(tmp_path / "set", saved, model)
    loaded = load_exit_set(tmp_path / "set", model)
    assert loaded.judge.kind == kind
    assert loaded.layers == LAYERS
    fields = ("thresholds", "state", "translators", "recipe", "metrics")
    assert [getattr(loaded, name) for name in fields] == [getattr(saved, name) for name in fields]
    logits = torch.randn(2, 9)
    with torch.inference_mode():
        states = saved.judge.new_state(2), loaded.judge.new_state(2)
        for exit in range(2):
            seen = evidence(torch.randn(2, HIDDEN), logits)
            scores = [
                one.judge.score(exit, seen, state, None)
                for one, state in zip((saved, loaded), states, strict=True)
            ]
            assert torch.equal(*scores)


def test_translators_round_trip(tmp_path: Path) -> None:
    translators = Translators(LAYERS, HIDDEN)
    torch.nn.init.normal_(translators.maps[1].weight)
    model = backbone("mamba2")
    save_exit_set(tmp_path / "set", exit_set("linear", translators), model)
    loaded = load_exit_set(tmp_path / "set", model).translators
    assert loaded is not None
    hidden = torch.randn(3, HIDDEN)
    for exit in range(2):
        assert torch.equal(loaded.apply(exit, hidden), translators.apply(exit, hidden))


def test_another_backbone_is_refused_plainly(tmp_path: Path) -> None:
    save_exit_set(tmp_path / "set", exit_set("linear"), backbone("mistral"))
    with pytest.raises(
        UserError,
        match=r"set: this exit set was made for 4 mistral layers of 32 channels and 30 vocabulary "
        r"entries, but this model has 4 mamba2 layers.*; train one for this model",
    ):
        load_exit_set(tmp_path / "set", backbone("mamba2"))
    with pytest.raises(UserError, match=r"made for other weights of the same shape \(digest"):
        load_exit_set(tmp_path / "set", backbone("mistral", seed=1))


def test_the_fingerprint_outlives_a_change_of_type() -> None:
    model = backbone("mamba2")
    first = fingerprint(model)
    assert fingerprint(backbone("mamba2")) == first
    assert fingerprint(backbone("mamba2").bfloat16()) == first
    tuned = backbone("mamba2")
    tuned.blocks()[2].mixer.in_proj.weight += 0.1  # type: ignore[union-attr]
    assert fingerprint(tuned).digest != first.digest


Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("layers"), "field layers is missing"),
        (lambda c: c.update(format=99), "format 99 is unknown; update dynexit"),
        (lambda c: c.update(layers=[1, True]), "field layers must be whole numbers"),
        (lambda c: c.update(layers=[1, 4]), "exit layer 4 is outside the model"),
        (lambda c: c.update(layers=[]), "exit layer list is outside the model"),
        (lambda c: c.update(thresholds=[0.5]), "1 thresholds for 2 exit layers"),
        (lambda c: c.update(thresholds="0.5"), "field thresholds must be a list"),
        (lambda c: c.update(thresholds=[0.5, "x"]), "field thresholds must be a list of numbers"),
        (lambda c: c.update(state=None), "field state must be text"),
        (lambda c: c.update(translators=1), "field translators must be true or false"),
        (lambda c: c.update(judge=[]), "field judge must be an object"),
        (lambda c: c["judge"].update(kind="oracle"), "no judge is called 'oracle'"),
        (lambda c: c["judge"].update(kind="mamba"), "does not take these options: width"),
        (lambda c: c["judge"]["options"].update(width="7"), "field judge.options.width must be a"),
        (lambda c: c["judge"]["options"].update(width=8), r"safetensors does not fit exits\.json"),
        (lambda c: c["backbone"].pop("digest"), "field backbone.digest is missing"),
        (lambda c: c["metrics"].append(3), "field metrics must be a list of objects"),
        (
            lambda c: c["metrics"][1].update(auroc="x"),
            r"field metrics\[1\]\.auroc must be",
        ),
    ],
)
def test_malformed_json_is_told_with_file_and_field(
    change: Change, message: str, tmp_path: Path
) -> None:
    model = backbone("mistral")
    save_exit_set(tmp_path, exit_set("ffn"), model)
    path = tmp_path / "exits.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message) as caught:
        load_exit_set(tmp_path, model)
    assert "exits.json" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    model = backbone("mistral")
    with pytest.raises(UserError, match=r"holds no exit set \(exits\.json is missing\)"):
        load_exit_set(tmp_path, model)
    save_exit_set(tmp_path / "set", exit_set("ffn"), model)
    weights = tmp_path / "set" / "exits.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"exits\.safetensors is not a whole safetensors file"):
        load_exit_set(tmp_path / "set", model)
    weights.unlink()
    with pytest.raises(UserError, match=r"exits\.safetensors does not exist"):
        load_exit_set(tmp_path / "set", model)
    (tmp_path / "set" / "exits.json").write_text("{")
    with pytest.raises(UserError, match=r"exits\.json is not valid JSON"):
        load_exit_set(tmp_path / "set", model)


def test_weights_that_are_not_those_of_the_json_beside_them(tmp_path: Path) -> None:
    model = backbone("mistral")
    save_exit_set(tmp_path / "set", exit_set("linear"), model)
    about, weights = tmp_path / "set" / "exits.json", tmp_path / "set" / "exits.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1  # one bit of one number
    weights.write_bytes(content)
    with pytest.raises(UserError, match=r"exits\.safetensors is not the file .*SHA-256 differs"):
        load_exit_set(tmp_path / "set", model)
    told = json.loads(about.read_text())
    del told["sha256"]  # a set that was made without dynexit says nothing of it
    about.write_text(json.dumps(told))
    assert load_exit_set(tmp_path / "set", model).judge.kind == "linear"


def test_an_earlier_set_is_replaced_and_other_files_are_not(tmp_path: Path) -> None:
    model = backbone("mistral")
    save_exit_set(tmp_path / "set", exit_set("ffn"), model)
    save_exit_set(tmp_path / "set", exit_set("entropy"), model)
    assert load_exit_set(tmp_path / "set", model).judge.kind == "entropy"
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("1")
    with pytest.raises(UserError, match="holds other files"):
        save_exit_set(tmp_path / "thesis", exit_set("ffn"), model)


def test_a_full_disk_keeps_the_earlier_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = backbone("mistral")
    save_exit_set(tmp_path / "set", exit_set("ffn"), model)

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="disk is full"):
        save_exit_set(tmp_path / "set", exit_set("linear"), model)
    assert load_exit_set(tmp_path / "set", model).judge.kind == "ffn"
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
