"""``dynexit finetune``: its JSON, its table, its mistakes, and other commands on what it writes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from checkpoints import make_checkpoint
from dynexit.cli import app
from dynexit.models.quantization import QuantizationConfig
from dynexit.models.quantize import plan_quantization, write_quantized

FEW = ("--steps", "3", "--batch", "2", "--length", "16", "--held-out", "2")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_checkpoint(tmp_path / "model", "mistral")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("".join(f"a line of text number {n}\n" for n in range(8)))
    return path


def test_json_and_what_can_be_done_with_the_result(model: Path, data: Path, tmp_path: Path) -> None:
    result = run("finetune", model, "--data", data, "--out", tmp_path / "out", *FEW, "--json")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["out"] == str(tmp_path / "out")
    assert told["steps"] == 3
    assert told["tokens_per_second"] > 0
    assert told["loss"] == {
        when: told["exits"][-1][side]["loss"]
        for when, side in (("first", "before"), ("last", "after"))
    }
    assert [row["layer"] for row in told["exits"]] == [1, 2, 3, 4]
    for row in told["exits"]:
        for when in ("before", "after"):
            assert row[when]["loss"] > 0
            assert 0 <= row[when]["accuracy"] <= 1
    assert told["exits"][-1]["after"]["agreement"] == 1
    kept = json.loads((tmp_path / "out" / "finetune.json").read_text())
    assert kept["recipe"]["batch"] == 2
    answer = run("generate", tmp_path / "out", "a line", "--exit-layer", "2", "--json")
    assert answer.exit_code == 0, answer.stderr


def test_table(model: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run("finetune", model, "--data", data, "--out", out, *FEW, "--lora", "2")
    assert result.exit_code == 0, result.stderr
    assert "as the last layer" in result.stdout
    assert "train-exits" in result.stdout


def test_the_reference_models_have_texts(tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run("finetune", "reference:mamba2", "--out", out, *FEW, "--lora", "2", "--json")
    assert result.exit_code == 0, result.stderr
    answer = run("generate", out, "Question: What is the capital of France?\nAnswer:", "--json")
    assert json.loads(answer.stdout)["text"] == " Paris\n"


def test_mistakes(model: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    small = tmp_path / "int8"
    write_quantized(plan_quantization(model, QuantizationConfig(8)), small)
    for arguments, told in (
        ((model,), "give a file with --data"),
        ((model, "--data", data, "--curriculum", "fast"), "curriculum 'fast' is not known"),
        ((model, "--data", data, "--batch", "9"), "texts are too few"),
        ((model, "--data", data, "--layers", "2,4"), "exit layer 4 is outside the model"),
        ((model, "--data", data, "--layers", "all"), "give whole numbers separated by commas"),
        ((small, "--data", data), "is quantised; fine-tune the checkpoint"),
        ((model, "--data", tmp_path / "none.txt"), "cannot read"),
    ):
        result = run("finetune", *arguments, "--out", out)
        assert result.exit_code == 2
        assert told in " ".join(result.stderr.split())
        assert "Traceback" not in result.stderr
        assert not out.exists()


def test_another_run_in_the_same_directory(model: Path, data: Path, tmp_path: Path) -> None:
    words = ("finetune", model, "--data", data, "--out", tmp_path / "out", *FEW)
    assert run(*words, "--layers", "3,2").exit_code == 0
    assert run(*words, "--layers", "2,3").exit_code == 0  # the same
    result = run(*words, "--layers", "2")
    assert result.exit_code == 2
    told = " ".join(result.stderr.split())
    assert "is of a run with layers [2, 3], and this one has [2]" in told


@pytest.mark.slow
@pytest.mark.parametrize("lora", ["0", "2"])
def test_a_killed_run_gives_what_an_undisturbed_one_does(
    lora: str, model: Path, data: Path, tmp_path: Path
) -> None:
    words = ("--batch", "2", "--length", "16", "--held-out", "2", "--save-every", "5")
    common = ("finetune", model, "--data", data, *words, "--steps", "200", "--lora", lora)
    command = [sys.executable, "-m", "dynexit", *map(str, common), "--out"]
    state = tmp_path / "killed.work" / "state.safetensors"
    with subprocess.Popen([*command, str(tmp_path / "killed")], stderr=subprocess.PIPE) as killed:
        while not state.exists() and killed.poll() is None:
            time.sleep(0.01)
        killed.kill()
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed").exists()
    for name in ("killed", "whole"):
        done = run(*common, "--out", tmp_path / name)
        assert done.exit_code == 0, done.stderr
    weights = [(tmp_path / n / "model.safetensors").read_bytes() for n in ("killed", "whole")]
    assert weights[0] == weights[1]
    assert sorted(path.name for path in tmp_path.iterdir() if "killed" in path.name) == ["killed"]


def test_a_directory_of_something_else_is_kept(model: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    result = run("finetune", model, "--data", data, "--out", out, *FEW)
    assert result.exit_code == 2
    assert not (tmp_path / "out.work").exists()  # told before any work
    assert (out / "thesis.txt").read_text() == "years of work"
