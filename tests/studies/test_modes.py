"""The study of modes, small and whole: its table, its JSON, and that it goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

STUDY = Path(__file__).parents[2] / "studies" / "modes" / "run.py"
MODES = [
    "full depth",
    "exits, shipped thresholds",
    "exits, risk 0.05",
    "bounded, risk 0.05",
    "lossless",
]


def run(place: Path, *options: str) -> subprocess.CompletedProcess[str]:
    words = ["--work", str(place / "work"), "--out", str(place / "out"), *options]
    return subprocess.run([sys.executable, str(STUDY), *words], capture_output=True, text=True)


@pytest.mark.slow
def test_the_whole_study(tmp_path: Path) -> None:
    done = run(tmp_path, "--limit", "2")
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert list(results) == ["reference:mistral", "reference:mamba2"]
    for found in results.values():
        assert list(found) == MODES
        for mode in found.values():
            assert list(mode["tasks"]) == ["trivia", "stories", "misconceptions", "all"]
            assert mode["tasks"]["all"]["n"] == 6
        full, lossless = found["full depth"]["tasks"]["all"], found["lossless"]["tasks"]["all"]
        assert full["layer_saving"] == full["byte_saving"] == 0.0
        assert lossless["consistency"] == 1.0
        assert lossless["metrics"] == full["metrics"]
        assert lossless["layer_saving"] > 0.0
        assert 0.0 < lossless["acceptance_rate"] <= 1.0
        assert found["bounded, risk 0.05"]["verify_below"] > 0.5
        assert found["lossless"]["verify_below"] is None
        assert "acceptance_rate" not in found["exits, risk 0.05"]["tasks"]["all"]
    lines = (tmp_path / "out" / "tables.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("| ") and line.split(" | ")[0][2:] in MODES]
    assert len(rows) == 10


@pytest.mark.slow
def test_it_goes_on(tmp_path: Path) -> None:
    options = ("--model", "mistral", "--limit")
    assert run(tmp_path, *options, "1").returncode == 0
    journal = tmp_path / "work" / "mistral.jsonl"
    first = journal.read_text()
    journal.write_text(first[:-30])  # killed while writing
    assert run(tmp_path, *options, "2").returncode == 0
    kept = first.splitlines()[:-1]
    assert journal.read_text().splitlines()[: len(kept)] == kept
    again = (tmp_path / "out" / "results.json").read_text()
    assert run(tmp_path, *options, "2").returncode == 0
    assert (tmp_path / "out" / "results.json").read_text() == again  # nothing is answered anew


def test_an_unknown_model_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path, "--model", "gpt", "--limit", "1")
    assert done.returncode == 2
    assert "reference:gpt" in done.stderr
    assert "Traceback" not in done.stderr
