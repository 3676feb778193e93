"""A backbone in stages: divided evenly, and the same answers from two processes as from one."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynexit.errors import UserError
from dynexit.models.cost import layer_parameters
from dynexit.models.loading import read_config
from dynexit.models.stages import divide_layers
from dynexit.reference.pair import reference_directory
from workers import ENVIRONMENT, launch

PROMPT = r"Question: What is the capital of France?\nAnswer:"


def run(workers: int, *words: str) -> subprocess.CompletedProcess[str]:
    command = [*launch(workers), *words]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=240)


def generated(workers: int, *words: str) -> dict[str, object]:
    done = run(workers, "generate", *words, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)  # of the first worker alone
    return {name: value for name, value in found.items() if name not in TIMED}


TIMED = {"tokens_per_second", "speedup"}


@given(st.integers(1, 24), st.sampled_from(["mistral", "mamba2"]))
def test_layers_are_divided_evenly(stages: int, name: str) -> None:
    config = read_config(reference_directory(name))
    if stages > config.depth:
        with pytest.raises(UserError, match="at most one a layer"):
            divide_layers(config, stages)
        return
    parts = divide_layers(config, stages)
    assert len(parts) == stages
    assert [layer for part in parts for layer in part] == list(range(config.depth))
    sizes = [sum(layer_parameters(config, i) for i in part) for part in parts]
    assert min(sizes) > 0
    assert max(sizes) - min(sizes) <= max(layer_parameters(config, i) for i in range(config.depth))


@pytest.mark.parametrize(
    "how",
    [
        ("reference:mistral", "--judge", "mamba"),
        ("reference:mamba2", "--judge", "mamba", "--lossless"),
        pytest.param(("reference:mamba2", "--exit-layer", "9"), marks=pytest.mark.slow),
        pytest.param(
            (
                "reference:mistral",
                "--judge",
                "entropy",
                "--state",
                "propagate",
                "--seed",
                "3",
                "--temperature",
                "0.8",
            ),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ("reference:mistral", "--lossless", "--judge", "mamba"), marks=pytest.mark.slow
        ),
    ],
)
def test_two_processes_answer_as_one(how: tuple[str, ...]) -> None:
    model, *words = how
    assert generated(2, model, PROMPT, *words) == generated(1, model, PROMPT, *words)


def test_copy_needs_all_layers_in_one_process() -> None:
    done = run(2, "generate", "reference:mistral", PROMPT, "--judge", "entropy", "--state", "copy")
    assert done.returncode != 0
    assert "'copy' needs all layers in one process: use propagate or recompute" in done.stderr


def test_a_process_holds_its_own_layers(tmp_path: Path) -> None:
    """Weights and caches of the others are not in its memory."""
    script = tmp_path / "held.py"
    script.write_text(
        "import torch\n"
        "from dynexit.commands.loading import load_stage\n"
        "from dynexit.workers import joined_workers\n"
        "with joined_workers() as workers:\n"
        "    stage = load_stage('reference:mamba2', 'fp32', 'cpu', workers).backbone\n"
        "    states = stage.new_cache(1, 16).states\n"
        "    held = [i for i, b in enumerate(stage.blocks())\n"
        "            if b.mixer.in_proj.weight.dtype == torch.float32]  # stored as bf16\n"
        "    assert held == list(stage.own)\n"
        "    assert held == [i for i, state in enumerate(states) if state is not None]\n"
        "    assert len(held) == 12\n"
        "    for line in workers.all_rows([f'{held}'] if workers.first else []):\n"
        "        print(line)\n"
    )
    done = subprocess.run(
        launch(2, str(script)), env=ENVIRONMENT, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(str(list(range(12)))) == 2  # both print, perhaps on one line
