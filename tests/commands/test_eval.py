"""``dynexit eval`` on official tasks, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dynexit.cli import app
from evaluation.official import trivium, write_coqa, write_triviaqa, write_truthfulqa

MODEL = "reference:mistral"
KEYS = {"n", "metrics", "consistency", "layer_saving", "flop_saving", "speedup", "skipped"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_truthfulqa(tmp_path)
    write_coqa(tmp_path)
    write_triviaqa(tmp_path, [trivium(SearchResults=[{"Description": "A road in a film."}])])
    return tmp_path


def evaluated(*arguments: str) -> tuple[dict[str, Any], str]:
    result = CliRunner().invoke(app, ["eval", MODEL, *arguments, "--json"])
    assert result.exit_code == 0, result.output
    assert result.stdout.count("\n") == 1
    return json.loads(result.stdout), result.stderr


def refused(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["eval", MODEL, *arguments])
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    return line


def test_official_tasks(data: Path) -> None:
    names = "truthfulqa,truthfulqa_mc,coqa,triviaqa,triviaqa_evidence"
    options = ("--data-dir", str(data), "--limit", "1", "--batch", "4", "--threshold", "0.5")
    found, told = evaluated("--tasks", names, *options)
    assert list(found["tasks"]) == names.split(",")
    for task in found["tasks"].values():
        assert set(task) >= KEYS
        assert (task["n"], task["skipped"]) == (1, 0)
        assert 0 < task["layer_saving"] < 1
    assert set(found["tasks"]["coqa"]["kinds"]) == {"mctest"}
    assert found["tasks"]["truthfulqa_mc"]["speedup"] is None
    assert "mean nothing" in found["note"]
    assert told.splitlines() == [found["note"]]


@pytest.mark.parametrize("batch", ["1", "4"])
def test_lossless_answers_are_the_full_models(batch: str) -> None:
    options = ("--lossless", "--limit", "4", "--batch", batch, "--dtype", "float32")
    found, _ = evaluated(*options)
    assert found["lossless"]
    assert found["verify_below"] is None
    whole = found["tasks"]["reference"]
    for task in found["tasks"].values():
        assert task["consistency"] == task["token_consistency"] == 1.0
        assert task["metrics"] == task["full_metrics"]
        assert task["acceptance_rate"] == task["accepted_tokens"] / task["draft_tokens"]
        assert task["speedup"] > 0.0
    assert 0.0 < whole["acceptance_rate"] <= 1.0
    assert whole["mean_acceptance_length"] > 0.0
    assert whole["layer_saving"] > 0.0
    parts = (found["tasks"][name] for name in ("trivia", "stories", "misconceptions"))
    assert whole["draft_tokens"] == sum(part["draft_tokens"] for part in parts)


def test_options_of_drafting() -> None:
    few = ("--lossless", "--limit", "2", "--batch", "2")
    one, _ = evaluated(*few, "--max-draft", "1", "--strict")
    assert one["tasks"]["reference"]["mean_acceptance_length"] <= 1.0
    free, _ = evaluated(*few, "--verify-below", "0")
    assert not free["lossless"]
    assert free["verify_below"] == 0.0
    assert free["tasks"]["reference"]["acceptance_rate"] == 1.0
    whole, _ = evaluated(*few, "--judge", "none")
    assert whole["tasks"]["reference"]["draft_tokens"] == 0


def test_own_history(data: Path) -> None:
    options = ("--data-dir", str(data), "--limit", "3", "--history", "own")
    found, _ = evaluated("--tasks", "coqa", *options)
    assert found["tasks"]["coqa"]["n"] == 3


def test_reference_scores_need_no_caution() -> None:
    found, told = evaluated("--tasks", "reference", "--limit", "1", "--batch", "2")
    assert "note" not in found
    assert told == ""


def test_the_table_for_people(data: Path) -> None:
    options = ["--tasks", "coqa", "--data-dir", str(data), "--limit", "1"]
    result = CliRunner().invoke(app, ["eval", MODEL, *options])
    assert result.exit_code == 0
    assert "coqa" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_mistakes(tmp_path: Path) -> None:
    where = ("--data-dir", str(tmp_path))
    assert "did you mean coqa?" in refused("--tasks", "coqaa", *where)
    assert "coqa-dev-v1.0.json" in refused("--tasks", "coqa", *where)
    assert "--batch 0" in refused("--batch", "0")
    assert "--history 'mine'" in refused("--history", "mine")
    assert "--max-draft is about --lossless" in refused("--max-draft", "2")
    assert "--state copy" in refused("--lossless", "--state", "copy")
    (tmp_path / "coqa-dev-v1.0.json").write_text("{")
    assert "coqa-dev-v1.0.json is not valid JSON" in refused("--tasks", "coqa", *where)


def test_multiple_choice_has_nothing_to_draft(data: Path) -> None:
    options = ("--tasks", "truthfulqa_mc", "--data-dir", str(data), "--limit", "1", "--lossless")
    result = CliRunner().invoke(app, ["eval", MODEL, *options])
    assert result.exit_code == 2
    assert "truthfulqa_mc is multiple choice" in result.stderr
