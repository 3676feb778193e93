"""Finding the official files, and the one line where there are none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dynexit.errors import UserError
from dynexit.evaluation.tasks import load_tasks
from dynexit.evaluation.tasks.official import find_file

NAMES, PATTERN = ("web-dev.json", "wikipedia-dev.json"), "*trivia*.json"


def test_official_names_come_first_also_one_folder_down(tmp_path: Path) -> None:
    for name in ("my-TriviaQA.json", "qa/wikipedia-dev.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert find_file(tmp_path, NAMES, PATTERN).name == "wikipedia-dev.json"
    (tmp_path / "web-dev.json").write_text("{}")
    assert find_file(tmp_path, NAMES, PATTERN).name == "web-dev.json"


def test_else_the_only_one_that_fits(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no file of the task; put web-dev.json or wiki"):
        find_file(tmp_path, NAMES, PATTERN)
    (tmp_path / "my-TriviaQA.json").write_text("{}")
    assert find_file(tmp_path, NAMES, PATTERN).name == "my-TriviaQA.json"
    (tmp_path / "trivia2.json").write_text("{}")
    with pytest.raises(UserError, match=r"my-TriviaQA.json, trivia2.json; name the one"):
        find_file(tmp_path, NAMES, PATTERN)


def test_a_directory_is_needed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--data-dir .* is not a directory"):
        load_tasks(["coqa"], data=tmp_path / "none")


@pytest.mark.parametrize("near", [("coqua", "coqa"), ("trivia", "triviaqa")])
def test_a_task_typed_wrong(near: tuple[str, str]) -> None:
    typed, meant = near
    with pytest.raises(UserError, match=rf"{typed}' is not known.*did you mean {meant}\?"):
        load_tasks([typed])


@pytest.mark.slow
@pytest.mark.parametrize("task", ["truthfulqa", "coqa", "triviaqa"])
def test_without_network_one_line_tells_so(task: str, tmp_path: Path) -> None:
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "dynexit", "eval", "reference:mistral", "--tasks", task]
    done = subprocess.run(command, env=offline, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "--data-dir" in done.stderr.splitlines()[-1]
