"""``dynexit sweep`` on a tiny model: what it prints, and what it says to mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from checkpoints import make_checkpoint
from dynexit.cli import app

SMALL = ("--limit", "1", "--layers", "2,3", "--thresholds", "0.1,0.9", "--time", "0")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "mamba2", "mamba2"))


def sweep(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["sweep", *arguments])


def test_json(checkpoint: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    judges = ("--judges", "top_probability", "--states", "recompute,freeze")
    result = sweep(checkpoint, "--out", str(out), *judges, *SMALL, "--json")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("\n") == 1
    found = json.loads(result.stdout)
    assert set(found) == {"points", "pareto", "report"}
    assert len(found["points"]) == 2 * 2 * 4
    ids = {point["id"] for point in found["points"]}
    assert len(ids) == len(found["points"])
    for point in found["points"]:
        assert "questions" not in point
        assert point["judge"] == "top-probability"
    tasks = {"reference", "trivia", "stories", "misconceptions"}
    assert set(found["pareto"]) == tasks
    for by_value in found["pareto"].values():
        assert set(by_value) == {"accuracy", "consistency"}
        for by_cost in by_value.values():
            assert set(by_cost) == {"flops", "bytes"}  # time was not measured
            assert all(set(best) <= ids for best in by_cost.values())
    assert Path(found["report"]).read_text().startswith("<!")
    about = json.loads((out / "sweep.json").read_text())
    assert about["grid"]["states"] == ["recompute", "freeze"]


def test_people_see_the_best(checkpoint: str, tmp_path: Path) -> None:
    arguments = ("--out", str(tmp_path / "out"), "--judges", "margin", *SMALL)
    result = sweep(checkpoint, *arguments, "--states", "recompute")
    assert result.exit_code == 0, result.stderr
    assert "reference: most answers kept for the FLOPs" in result.stdout
    assert "8 points; report: " in result.stdout
    assert max(map(len, result.stdout.splitlines()[:-1])) <= 80


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--judges", "oracle"), "--judges: 'oracle' is not known; choose from linear, ffn"),
        (("--judges", "linear"), "linear must be trained"),
        (("--thresholds", "0.5,x"), "--thresholds '0.5,x': give numbers"),
        (("--thresholds", "2"), "--thresholds: give numbers from 0 to 1"),
        (("--layers", "2,3;4"), "exit layer 4 is outside the model"),
        (("--layers", "2,a"), "--layers '2,a': give whole numbers"),
        (("--states", "copy"), "'copy' needs attention"),
        (("--states", "thaw"), "'thaw' is not known"),
        (("--time", "-1"), "--time -1: give a number"),
        (("--limit", "0"), "--limit 0"),
        (("--tasks", "hellaswag"), "'hellaswag' is not known"),
        (("--exits", "nowhere"), "nowhere holds no exit set"),
        (("--data", "x.txt"), "add --train"),
        (("--top-k", "0"), "top_k is 0"),
        (("--judges", "linear", "--train"), "--data"),
    ],
)
def test_mistakes(checkpoint: str, tmp_path: Path, options: tuple[str, ...], told: str) -> None:
    result = sweep(checkpoint, "--out", str(tmp_path / "out"), *options)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert told in lines[0]
