"""Where a command computes, and at how many exits it decides."""

from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

from dynexit.cli import app
from dynexit.errors import UserError
from dynexit.models.device import find_device

GPUS = torch.cuda.device_count()
PROMPT = "Question: What is the capital of France?\nAnswer:"


def test_auto_takes_what_there_is() -> None:
    assert find_device("auto").type == ("cuda" if GPUS else "cpu")
    assert find_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "mps", "cuda:x", ""])
def test_unknown_names_are_told(name: str) -> None:
    with pytest.raises(UserError, match=r"choose auto, cpu, cuda or cuda:N"):
        find_device(name)


def test_more_gpus_than_there_are() -> None:
    with pytest.raises(UserError, match="CUDA device"):
        find_device(f"cuda:{GPUS}")


def test_a_gpu_that_is_not_there_is_one_line_and_code_2() -> None:
    command = ["generate", "reference:mistral", PROMPT, "--device", f"cuda:{GPUS}"]
    result = CliRunner().invoke(app, command)
    assert isinstance(result.exception, UserError) or result.exit_code == 2


def test_deciding_at_every_second_exit() -> None:
    command = ["generate", "reference:mistral", PROMPT, "--judge", "mamba", "--device", "cpu"]
    layers = []
    for more in ([], ["--decide-every", "2"]):
        result = CliRunner().invoke(app, [*command, *more, "--json"])
        assert result.exit_code == 0, result.output
        layers.append({t["exit_layer"] for t in json.loads(result.stdout)["tokens"]})
    assert layers[1] <= layers[0] | {12}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--judge", "mamba", "--decide-every", "0"], "--decide-every 0"),
        (["--risk", "0.05", "--decide-every", "2"], "leave --decide-every or --risk out"),
    ],
)
def test_contradictions_about_deciding_are_told(options: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["generate", "reference:mistral", PROMPT, *options])
    assert message in str(result.exception) + result.output
    assert result.exit_code != 0
