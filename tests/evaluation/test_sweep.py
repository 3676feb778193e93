"""A sweep: its points are what decoding gives, and it goes on from any moment it was stopped at."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dynexit.errors import UserError
from dynexit.evaluation.candidates import Candidate, Wanted, gather
from dynexit.evaluation.demo import applicable_states
from dynexit.evaluation.fronts import fronts
from dynexit.evaluation.jsonl import read_rows
from dynexit.evaluation.measure import measure
from dynexit.evaluation.points import Point, open_points
from dynexit.evaluation.runner import FULL, answer_all
from dynexit.evaluation.sweep import Grid, run_sweep
from dynexit.evaluation.tasks.reference import reference_tasks
from dynexit.evaluation.tasks.task import Task
from dynexit.exits.exit_set import ExitSet, save_exit_set
from dynexit.exits.judges import build_judge
from dynexit.locks import claimed
from dynexit.models import Model, load_model
from dynexit.training import ExitRecipe

LAYERS = (2, 3)
WANTED = Wanted(judges=("margin", "patience"), layers=(LAYERS,))
MANY = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
GRID = Grid(thresholds=(0.05, 0.6), timed=0)


@contextmanager
def quietly(title: str, total: int) -> Iterator[Callable[[], None]]:
    counted = [0]

    def tick() -> None:
        counted[0] += 1

    yield tick
    assert counted[0] == total, title


def short_tasks(limit: int = 2) -> dict[str, list[Task]]:
    short = [task for task in reference_tasks(limit) if task.name != "stories"]
    return {"reference": [replace(task, max_new_tokens=5) for task in short]}


def contents(directory: Path) -> dict[str, list[dict[str, object]]]:
    return {path.name: read_rows(path) for path in sorted(directory.glob("*.jsonl"))}


@pytest.fixture
def mamba(model: Model, tmp_path: Path) -> Path:
    """An exit set of a random mamba judge."""
    torch.manual_seed(1)
    judge = build_judge("mamba", LAYERS, model.backbone.config.hidden)
    recipe = {"top_k": 5, "seed": 2}
    save_exit_set(
        tmp_path / "set", ExitSet(judge, (0.5, 0.5), "recompute", recipe=recipe), model.backbone
    )
    return tmp_path / "set"


def test_points_are_what_decoding_gives(model: Model, mamba: Path, tmp_path: Path) -> None:
    wanted = Wanted(judges=("mamba", "margin"), exits=(mamba,))
    grid = Grid(thresholds=(0.05, 0.5), timed=0)
    tasks = short_tasks(2)
    points = run_sweep(model, tasks, wanted, grid, tmp_path / "out", quietly)
    states = applicable_states(model.backbone.config)
    assert {(p.judge, p.state) for p in points} == {
        *(("mamba", state) for state in states),
        ("margin", "recompute"),
    }
    assert len(points) == (len(states) + 1) * 2 * 3
    candidates = {c.name: c for c in gather(model, wanted, tmp_path / "out")}
    for point in points[::3]:
        assert_is_measured(model, tasks["reference"], point, candidates[point.setting.judge_id])
    exact = [p for p in points if p.state == "recompute"]
    assert any(p.replayed > 0.0 for p in exact)
    assert any(p.replayed < 1.0 for p in exact)
    assert all(p.consistency["teacher_forced"] is not None for p in exact)
    assert all(p.replayed == 0.0 for p in points if p.state != "recompute")


def assert_is_measured(model: Model, tasks: list[Task], point: Point, candidate: Candidate) -> None:
    """A point has the numbers that ``eval`` would give."""
    policy = candidate.policy(point.state, point.threshold)
    answers = answer_all(model, tasks, {"early": policy})
    names = {t.name for t in tasks} if point.task == "reference" else {point.task}
    full, early = ([a for a in answers[way] if a.task.name in names] for way in (FULL, "early"))
    found = measure(full, early, model.backbone.config, policy)
    assert (point.n, point.metrics, point.full_metrics) == (
        found.n,
        pytest.approx(found.metrics),
        pytest.approx(found.full_metrics),
    )
    assert point.consistency["answers"] == found.consistency.answers
    assert point.consistency["tokens"] == pytest.approx(found.consistency.tokens)
    assert point.consistency["agreed"] == pytest.approx(found.consistency.agreed)
    for saving in ("layer_saving", "flop_saving", "byte_saving"):
        assert getattr(point, saving) == pytest.approx(getattr(found, saving))
    tokens = [token for a in early for token in a.generation.tokens]
    assert sum(point.exit_layers.values()) == len(tokens) == sum(point.questions["tokens"])
    mean = sum(layer * count for layer, count in point.exit_layers.items()) / len(tokens)
    assert point.mean_exit_layer == pytest.approx(mean)
    assert {len(column) for column in point.questions.values()} == {found.n}


def test_what_is_there_is_not_done_again(model: Model, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = run_sweep(model, short_tasks(), WANTED, GRID, out, quietly)
    rows = contents(out)
    assert set(rows) == {"examples.jsonl", "full.jsonl", "points.jsonl", "reliability.jsonl"}
    stamps = {path: path.stat().st_mtime_ns for path in out.glob("*.jsonl")}
    assert run_sweep(model, short_tasks(), WANTED, GRID, out, quietly) == first
    assert {path: path.stat().st_mtime_ns for path in out.glob("*.jsonl")} == stamps
    more = replace(GRID, thresholds=(0.6, 0.9))
    grown = run_sweep(model, short_tasks(), WANTED, more, out, quietly)
    assert grown[: len(first)] == first
    assert {p.threshold for p in grown} == {0.05, 0.6, 0.9}
    about = json.loads((out / "sweep.json").read_text())
    assert about["grid"]["thresholds"] == [0.05, 0.6, 0.9]
    assert about["tasks"] == {"trivia": 2, "misconceptions": 2}


def test_torn_in_the_middle(model: Model, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_sweep(model, short_tasks(), WANTED, GRID, out, quietly)
    whole = contents(out)
    for name in ("points.jsonl", "examples.jsonl", "full.jsonl"):
        content = (out / name).read_bytes()
        (out / name).write_bytes(content[: len(content) * 2 // 3])
    run_sweep(model, short_tasks(), WANTED, GRID, out, quietly)
    again = contents(out)
    for name in ("points.jsonl", "reliability.jsonl", "examples.jsonl"):
        assert again[name] == whole[name]
    assert len(again["full.jsonl"]) == len(whole["full.jsonl"])


def test_killed_and_run_again(tmp_path: Path) -> None:
    """A real kill of a real sweep, as soon as it has some rows but not all."""
    out, whole = tmp_path / "out", tmp_path / "whole"
    arguments = ["sweep", "reference:mistral", "--limit", "1", "--time", "0"]
    arguments += ["--judges", "margin,entropy", "--thresholds", ",".join(map(str, MANY))]
    arguments += ["--states", "recompute"]
    code = "from dynexit.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments, "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    points = out / "points.jsonl"
    while process.poll() is None and not (points.exists() and points.stat().st_size > 3000):
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "the sweep was over before it was killed"
    left = read_rows(points)
    model = load_model("reference:mistral")
    wanted = Wanted(judges=("margin", "entropy"))
    grid = Grid(thresholds=MANY, states=("recompute",), timed=0)
    tasks = {"reference": reference_tasks(1)}
    again = run_sweep(model, tasks, wanted, grid, out, quietly)
    assert 0 < len(left) < len(again) == 2 * len(MANY) * 4
    assert again == run_sweep(model, tasks, wanted, grid, whole, quietly)
    ids = [row["id"] for row in read_rows(points)]
    assert len(ids) == len(set(ids)) == len(again)
    assert [p.as_json() for p in again[: len(left)]] == left


def test_time_of_the_best_points(tmp_path: Path) -> None:
    model = load_model("reference:mistral")
    wanted, grid = Wanted(judges=("linear", "margin")), Grid(thresholds=(0.5, 0.9), timed=3)
    tasks = {"reference": reference_tasks(2)}
    points = run_sweep(model, tasks, wanted, grid, tmp_path, quietly)
    best = fronts(points, "reference")
    assert best["consistency"]["flops"]
    for point in best["consistency"]["flops"] + best["accuracy"]["bytes"]:
        assert point.speedup is not None
        assert point.speedup > 0
    assert best["consistency"]["time"]
    timed = {p.setting for p in points if p.speedup is not None}
    assert len([p for p in points if p.speedup is not None]) == 4 * len(timed)
    assert run_sweep(model, tasks, wanted, grid, tmp_path, quietly) == points


def test_trained_on_one_collection(model: Model, tmp_path: Path) -> None:
    data = tmp_path / "prompts.txt"
    data.write_text("".join(f"prompt {n}\n" for n in range(12)))
    recipe = ExitRecipe(prompts=10, epochs=1, max_new_tokens=4)
    wanted = Wanted(
        judges=("linear", "ffn"),
        layers=(LAYERS,),
        top_k=(1, 5),
        seeds=(0, 1),
        train=True,
        data=data,
        recipe=recipe,
    )
    found = gather(model, wanted, tmp_path)
    assert [(c.judge.kind, c.top_k, c.seed) for c in found] == [
        (kind, k, s) for kind in ("linear", "ffn") for k in (1, 5) for s in (0, 1)
    ]
    assert len({c.digest for c in found}) == 8
    assert not (tmp_path / "exits.work").exists()
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "exits").rglob("*.json")}
    assert len(stamps) == 8
    again = gather(model, wanted, tmp_path)
    assert [c.digest for c in again] == [c.digest for c in found]
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "exits").rglob("*.json")} == stamps
    with pytest.raises(UserError, match="was trained with another epochs"):
        gather(model, replace(wanted, recipe=replace(recipe, epochs=2)), tmp_path)


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (Wanted(judges=("oracle",)), "--judges: 'oracle' is not known"),
        (Wanted(judges=("linear",)), "linear must be trained; add --train --data FILE, or --exits"),
        (Wanted(layers=((4,),)), "exit layer 4 is outside the model"),
    ],
)
def test_judges_that_cannot_be_had(model: Model, tmp_path: Path, wanted: Wanted, told: str) -> None:
    with pytest.raises(UserError, match=told):
        run_sweep(model, short_tasks(), wanted, GRID, tmp_path, quietly)


def test_one_exit_set_twice(model: Model, mamba: Path, tmp_path: Path) -> None:
    twice = Wanted(exits=(mamba, mamba))
    with pytest.raises(UserError, match="two exit sets are both mamba-k5-s2/2,3"):
        gather(model, twice, tmp_path)


def test_layers_that_are_not_shipped(tmp_path: Path) -> None:
    model = load_model("reference:mistral")
    with pytest.raises(UserError, match=r"linear exits shipped .* 2,3; add --train"):
        gather(model, Wanted(judges=("linear",), layers=((4, 8),)), tmp_path)


def test_a_directory_of_something_else(model: Model, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_sweep(model, short_tasks(1), WANTED, GRID, out, quietly)
    with pytest.raises(UserError, match="other questions of trivia; choose another --out"):
        run_sweep(model, short_tasks(2), WANTED, GRID, out, quietly)
    other = load_model("reference:mistral")
    with pytest.raises(UserError, match="with other weights or another dtype; choose another"):
        run_sweep(other, short_tasks(1), Wanted(judges=("margin",)), GRID, out, quietly)
    about = json.loads((out / "sweep.json").read_text())
    (out / "sweep.json").write_text(json.dumps(about | {"schema": 7}))
    with pytest.raises(UserError, match=r"sweep.json has schema 7, this dynexit writes 1"):
        run_sweep(model, short_tasks(1), WANTED, GRID, out, quietly)
    (out / "sweep.json").unlink()
    with pytest.raises(UserError, match=r"has points but no sweep.json"):
        run_sweep(model, short_tasks(1), WANTED, GRID, out, quietly)
    (out / "points.jsonl").write_text('{"id": "a", "schema": 7}\n')
    with pytest.raises(UserError, match=r"points of schema 7, this dynexit writes 1"):
        open_points(out / "points.jsonl")


def test_one_sweep_at_a_time(model: Model, tmp_path: Path) -> None:
    with (
        claimed(tmp_path, within=True),
        pytest.raises(UserError, match=r"another dynexit \(process \d+\) is writing to"),
    ):
        run_sweep(model, short_tasks(1), WANTED, GRID, tmp_path, quietly)
    assert run_sweep(model, short_tasks(1), WANTED, GRID, tmp_path, quietly)


def test_out_is_a_file(model: Model, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=r"cannot write to .*file: file exists"):
        run_sweep(model, short_tasks(1), WANTED, GRID, tmp_path / "file", quietly)


@pytest.mark.parametrize("thresholds", [(), (1.5,), (float("nan"),)])
def test_thresholds_that_are_none(thresholds: tuple[float, ...]) -> None:
    with pytest.raises(UserError, match="--thresholds: give numbers from 0 to 1"):
        Grid(thresholds=thresholds)
