"""On a CPU equal seeds give equal answers, to the last bit of every score."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dynexit.exits.choice import Wish, choose
from dynexit.inference.generate import generate
from dynexit.inference.generation import Generation
from dynexit.inference.settings import GenerationSettings
from dynexit.inference.speculative.settings import Lossless
from dynexit.models import Model, load_model
from dynexit.reference.pair import NAMES
from dynexit.training import ExitRecipe, train_exits
from training.tiny import prompts_file, tiny_model

PROMPTS = ["Mary went to the garden. Question: Where is Mary?\nAnswer:", "Question: Who", "Ann"]
SAMPLED = GenerationSettings(max_new_tokens=16, temperature=1.0, seed=5, repetition_penalty=1.1)


@pytest.fixture
def strictly() -> Iterator[None]:
    """PyTorch refuses what is not deterministic."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="module", params=NAMES)
def model(request: pytest.FixtureRequest) -> Model:
    return load_model(f"reference:{request.param}")


def timeless(answers: list[Generation]) -> list[Generation]:
    bare = [replace(answer, seconds=0.0, prefill_seconds=0.0) for answer in answers]
    return [
        replace(a, drafting=None if a.drafting is None else replace(a.drafting, draft_seconds=0.0))
        for a in bare
    ]


@pytest.mark.usefixtures("strictly")
@pytest.mark.parametrize("lossless", [None, Lossless()], ids=["exits", "lossless"])
def test_equal_seeds(model: Model, lossless: Lossless | None) -> None:
    wish = Wish(judge="mamba")
    one, other = (
        timeless(generate(model, PROMPTS, SAMPLED, choose(model, wish).policy, lossless))
        for _ in range(2)
    )
    assert one == other
    another = replace(SAMPLED, seed=6)  # the seed does decide something
    changed = generate(model, PROMPTS, another, choose(model, wish).policy, lossless)
    assert timeless(changed) != one


@pytest.mark.usefixtures("strictly")
@pytest.mark.parametrize("kind", ["mistral", "mamba2"])
def test_equal_trainings(kind: str, tmp_path: Path) -> None:
    recipe = ExitRecipe(layers=(1, 3), max_new_tokens=4, epochs=2)
    data = prompts_file(tmp_path / "prompts.txt", 12)
    files = []
    for name in ("one", "two"):
        train_exits(tiny_model(kind), recipe, tmp_path / name, data)
        files.append((tmp_path / name / "exits.safetensors").read_bytes())
    assert files[0] == files[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("lossless", [False, True])
def test_another_process_with_other_threads(name: str, lossless: bool) -> None:
    words = ["generate", f"reference:{name}", PROMPTS[0], "--judge", "mamba", "--json"]
    words += ["--temperature", "1", "--seed", "5", "--max-new-tokens", "24"]
    words += ["--lossless"] if lossless else []

    def told(threads: int) -> Any:
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
        environment = {**os.environ, **dict.fromkeys(names, str(threads))}
        command = [sys.executable, "-m", "dynexit", *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)["tokens"]

    once = told(2)
    assert told(2) == once
    assert told(1) == once
