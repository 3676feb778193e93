"""The examples run, and say what they are there to say."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
QUESTIONS = EXAMPLES / "questions.jsonl"
MOST_LINES = 60
Run = Callable[..., list[str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs an example as a script and gives the lines that it prints."""

    def started(name: str, *arguments: str) -> list[str]:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out.splitlines()

    return started


@pytest.fixture
def few(tmp_path: Path) -> str:
    """A file with the first questions only."""
    path = tmp_path / "few.jsonl"
    lines = QUESTIONS.read_text(encoding="utf-8").splitlines()[:24]
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


def test_examples_are_short() -> None:
    found = sorted(EXAMPLES.glob("*.py"))
    assert len(found) == 5
    for path in found:
        assert len(path.read_text(encoding="utf-8").splitlines()) < MOST_LINES, path.name


def test_decode(run: Run) -> None:
    lines = run("decode.py")
    assert lines[0] == "No, the capital of Australia is Canberra."
    assert lines[1].startswith("mean exit layer ")
    assert any("' Canberra' left after layer" in line for line in lines)
    assert lines[-1] == "the full model says the same"


def test_compare_judges(run: Run) -> None:
    head, *rows = run("compare_judges.py", "--limit", "2", "--threshold", "0.5")
    assert head.split() == ["judge", "layers", "saved", "same", "answers"]
    assert [row.split()[0] for row in rows][:3] == ["linear", "ffn", "mamba"]
    assert all(row.count("%") == 2 for row in rows)


@pytest.mark.slow
def test_calibrate(run: Run, few: str) -> None:
    threshold, saved, answer = run("calibrate.py", few, "--risk", "0.3")
    assert threshold.startswith("threshold 0.")
    assert saved.endswith("% of the layers saved")
    assert answer == "Lima"


def test_too_few_questions_are_told(run: Run, few: str) -> None:
    (line,) = run("calibrate.py", few, "--risk", "0.01")
    assert line.startswith("no threshold is valid: about ")


@pytest.mark.slow
def test_train_judges(run: Run, few: str, tmp_path: Path) -> None:
    lines = run("train_judges.py", few, str(tmp_path / "exits"), "--epochs", "1")
    assert len(lines) == 8
    assert lines[0].startswith("linear, layer 2: ")
    assert (tmp_path / "exits" / "mamba" / "exits.json").is_file()


@pytest.mark.slow
def test_serve_and_call(run: Run) -> None:
    pytest.importorskip("uvicorn", reason="needs dynexit[serve]")
    lines = run("serve_and_call.py")
    assert lines[0].startswith("Paris [")
    assert lines[-1].endswith("% of the layers saved")
