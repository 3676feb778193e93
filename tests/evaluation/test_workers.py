"""Questions shared by two workers: the answers and figures of one, but for times."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from evaluation.official import write_coqa, write_truthfulqa
from workers import ENVIRONMENT, launch

TIMED = {"speedup", "tokens_per_second"}


def evaluated(workers: int, *words: str) -> Any:
    command = [*launch(workers), "eval"]
    done = subprocess.run(
        [*command, *words, "--json"], env=ENVIRONMENT, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return untimed(json.loads(done.stdout))


def untimed(found: Any) -> Any:
    if not isinstance(found, dict):
        return found
    return {name: untimed(value) for name, value in found.items() if name not in TIMED}


@pytest.mark.parametrize(
    "how",
    [
        ("reference:mamba2", "--batch", "2"),
        pytest.param(("reference:mistral", "--share", "layers"), marks=pytest.mark.slow),
    ],
)
def test_two_workers_find_what_one_finds(how: tuple[str, ...]) -> None:
    asked = (*how, "--limit", "3")
    assert evaluated(2, *asked) == evaluated(1, *asked)


def test_turns_in_the_models_own_words_and_choices(tmp_path: Path) -> None:
    """A later turn is asked with what another worker answered."""
    write_coqa(tmp_path)
    write_truthfulqa(tmp_path)
    tasks = ("--tasks", "coqa,truthfulqa_mc", "--history", "own", "--data-dir", str(tmp_path))
    asked = ("reference:mistral", *tasks)
    assert evaluated(2, *asked) == evaluated(1, *asked)
