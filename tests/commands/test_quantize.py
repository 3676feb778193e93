"""``dynexit quantize``: its JSON, its mistakes, and other commands on what it writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from checkpoints import make_checkpoint
from dynexit.cli import app
from dynexit.reference.pair import NAMES

FIELDS = {
    "model",
    "bits",
    "group",
    "bytes_before",
    "bytes_after",
    "tensors_quantised",
    "tensors_left",
    "errors",
    "seconds",
    "out",
}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def answer(*arguments: str) -> dict[str, Any]:
    """The JSON object of a command that must do well."""
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("\n") == 1
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


def refusal(*arguments: str) -> str:
    """The one line of a command that must refuse."""
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    return str(result.stderr)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    directory = tmp_path_factory.mktemp("checkpoints")
    return {kind: str(make_checkpoint(directory / kind, kind)) for kind in NAMES}


@pytest.fixture(scope="module", params=[4, 8])
def told(
    request: pytest.FixtureRequest,
    checkpoints: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    """What quantize says of the small Mistral."""
    out = tmp_path_factory.mktemp("quantised") / "out"
    bits = ("--bits", str(request.param), "--group", "32")
    return answer("quantize", checkpoints["mistral"], *bits, "--out", str(out))


def test_json(told: dict[str, Any], checkpoints: dict[str, str]) -> None:
    assert set(told) == FIELDS
    assert told["model"] == checkpoints["mistral"]
    assert told["group"] == (32 if told["bits"] == 4 else None)
    assert told["tensors_quantised"] == 4 * 7 + 1
    assert told["tensors_left"] == 4 * 2 + 2
    kinds = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"}
    assert set(told["errors"]) == kinds
    assert all(0 < error < 0.15 for error in told["errors"].values())
    assert told["seconds"] > 0
    stored = Path(checkpoints["mistral"], "model.safetensors").stat().st_size
    assert 0.9 * stored < told["bytes_before"] < stored
    assert told["bytes_after"] < told["bytes_before"]


def test_info(told: dict[str, Any], checkpoints: dict[str, str]) -> None:
    before, after = answer("info", checkpoints["mistral"]), answer("info", told["out"])
    assert before["quantization"] is None
    expected = {"bits": 4, "group": 32} if told["bits"] == 4 else {"bits": 8}
    assert after["quantization"] == expected
    # one token reads all tensors but the embedding, of which it reads a row of 32 numbers
    saved = told["bytes_before"] - told["bytes_after"]
    assert before["bytes_per_token"] - after["bytes_per_token"] == saved
    assert before["flops_per_token"] == after["flops_per_token"]
    assert before["parameters"] == after["parameters"]
    assert f"{told['bits']} bits" in run("info", told["out"]).stdout


def test_for_people(checkpoints: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run("quantize", checkpoints["mamba2"], "--bits", "8", "--out", str(out))
    assert result.exit_code == 0
    assert "9 matrices of 8 bits" in " ".join(result.stdout.split())
    assert "in_proj" in result.stdout


@pytest.mark.parametrize("kind", NAMES)
def test_exits_on_a_quantised_model(kind: str, checkpoints: dict[str, str], tmp_path: Path) -> None:
    model, exits, data = (str(tmp_path / name) for name in ("model", "exits", "prompts.txt"))
    answer("quantize", checkpoints[kind], "--group", "32", "--out", model)
    short = ("--max-new-tokens", "4")
    Path(data).write_text("".join(f"prompt number {n}\n" for n in range(8)))
    training = ("--judge", "linear", "--layers", "2,3", "--epochs", "1", "--data", data)
    answer("train-exits", model, *training, *short, "--out", exits)
    found = answer("generate", model, "two words", *short, "--exits", exits, "--threshold", "0")
    assert found["mean_exit_layer"] == 2
    lossy = ("--tasks", "reference", "--limit", "1", "--exits", exits)
    asked = answer("eval", model, *lossy)["tasks"]["reference"]
    assert asked["n"] == 3
    # an exit set belongs to the weights that it was trained on
    line = refusal("generate", checkpoints[kind], "two words", "--exits", exits)
    assert "made for other weights" in line


class TestMistakes:
    def test_bits(self, checkpoints: dict[str, str], tmp_path: Path) -> None:
        out = str(tmp_path / "out")
        line = refusal("quantize", checkpoints["mistral"], "--bits", "3", "--out", out)
        assert "3 bits: weights are quantised to 4 or 8 bits" in line

    def test_group(self, checkpoints: dict[str, str], tmp_path: Path) -> None:
        out = str(tmp_path / "out")
        line = refusal("quantize", checkpoints["mistral"], "--group", "48", "--out", out)
        assert "groups of 48: choose 128, 64 or 32" in line

    def test_no_out(self, checkpoints: dict[str, str]) -> None:
        assert "--out" in refusal("quantize", checkpoints["mistral"])

    def test_out_is_the_model(self, checkpoints: dict[str, str]) -> None:
        line = refusal("quantize", checkpoints["mistral"], "--out", checkpoints["mistral"])
        assert "something is there already; name a new directory" in line

    def test_again(self, told: dict[str, Any], tmp_path: Path) -> None:
        line = refusal("quantize", told["out"], "--out", str(tmp_path / "out"))
        assert f"{told['bits']} bits already" in line

    def test_no_such_model(self, tmp_path: Path) -> None:
        line = refusal("quantize", "/no/such/model", "--out", str(tmp_path / "out"))
        assert "no such directory" in line
