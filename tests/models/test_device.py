"""Devices and number formats by name, and the switch for determinism."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from dynexit.errors import UserError
from dynexit.models.device import DETERMINISM, find_device, find_dtype, using_threads


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cpu:y", ""])
def test_unknown_device(name: str) -> None:
    with pytest.raises(UserError, match="choose auto, cpu, cuda or cuda:N"):
        find_device(name)


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(UserError, match="this machine has"):
        find_device("cuda:99")


def test_dtypes() -> None:
    assert find_dtype(None) is None
    assert find_dtype("bf16") is find_dtype("bfloat16") is torch.bfloat16
    with pytest.raises(UserError, match="choose float32, bfloat16 or float16"):
        find_dtype("int8")


@pytest.mark.parametrize("switch", ["on", "off"])
def test_determinism(switch: str) -> None:
    """The switch reaches PyTorch, and decoding needs nothing that is not deterministic."""
    script = (
        "import torch, dynexit\n"
        "model = dynexit.load('reference:mamba2', judge='mamba')\n"
        "print(torch.are_deterministic_algorithms_enabled())\n"
        "print(model.generate('Question: What is the capital of France?\\nAnswer:').text)\n"
    )
    environment = {**os.environ, DETERMINISM: switch}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(switch == "on"), "Paris"]


def test_threads_are_as_before_afterwards() -> None:
    before = torch.get_num_threads()
    with using_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
    with using_threads(None):
        assert torch.get_num_threads() == before
    with pytest.raises(UserError, match="--threads 0: give at least 1"), using_threads(0):
        pass
