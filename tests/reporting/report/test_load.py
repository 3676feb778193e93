"""Directories of sweeps: what is accepted, and what is said of the others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dynexit.errors import UserError
from dynexit.reporting.report.load import load_sweeps
from reporting.report.sweeps import read_rows, write_rows, write_sweep


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    return write_sweep(tmp_path / "s", judges=("mamba",), tasks=("trivia",), n=4)


def change(path: Path, **fields: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_everything_is_read(sweep: Path) -> None:
    (found,) = load_sweeps([sweep])
    rows = read_rows(sweep / "points.jsonl")
    assert [p.threshold for p in found.points] == [row["threshold"] for row in rows]
    assert [p.flop_saving for p in found.points] == [row["flop_saving"] for row in rows]
    assert found.points[0].exit_layers.keys() == {3, 6, 9, 12}
    assert "rouge_l" not in found.points[0].consistency
    assert len(found.reliability) == 3
    assert found.examples[0].tokens[0].text == " Paris"
    assert found.certificates[0].threshold == 0.9


def test_a_torn_last_line_is_passed_over(sweep: Path) -> None:
    path = sweep / "points.jsonl"
    whole = len(load_sweeps([sweep])[0].points)
    path.write_bytes(path.read_bytes()[:-40])
    assert len(load_sweeps([sweep])[0].points) == whole - 1


def test_a_row_written_twice_counts_once(sweep: Path) -> None:
    rows = read_rows(sweep / "points.jsonl")
    write_rows(sweep / "points.jsonl", [*rows, *rows])
    assert len(load_sweeps([sweep, sweep])[0].points) == len(rows)
    assert len(load_sweeps([sweep, sweep / "."])) == 1


def test_other_weights_of_one_name_are_another_backbone(sweep: Path, tmp_path: Path) -> None:
    other = write_sweep(tmp_path / "other", judges=("mamba",), tasks=("trivia",), n=4)
    change(other / "sweep.json", fingerprint={"digest": "0123456789abcdef", "depth": 12})
    names = [s.backbone for s in load_sweeps([sweep, other])]
    assert names == ["reference:mistral (ffffffff)", "reference:mistral (01234567)"]


def test_a_checkpoint_is_named_by_the_last_part_of_its_path(sweep: Path) -> None:
    change(sweep / "sweep.json", model="/models/mine-7b")
    assert load_sweeps([sweep])[0].backbone == "mine-7b"
    change(sweep / "sweep.json", model="mistralai/Mistral-7B-v0.3")
    assert load_sweeps([sweep])[0].backbone == "mistralai/Mistral-7B-v0.3"


def test_pooled_tasks_are_those_that_the_sweep_does_not_name(sweep: Path) -> None:
    rows = read_rows(sweep / "points.jsonl")
    pooled = [{**row, "task": "reference", "id": row["id"] + "all"} for row in rows]
    write_rows(sweep / "points.jsonl", [*rows, *pooled])
    assert load_sweeps([sweep])[0].pooled == {"reference"}
    change(sweep / "sweep.json", tasks={"other": 4})
    assert load_sweeps([sweep])[0].pooled == set()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("judge", 3),
        ("flop_saving", "much"),
        ("flop_saving", None),
        ("flop_saving", float("nan")),
        ("threshold", "high"),
        ("n", True),
        ("layers", [1.5]),
        ("consistency", {}),
        ("consistency", []),
        ("metrics", {"em": "good"}),
        ("exit_layers", {"first": 3}),
        ("questions", {"em": 1}),
        ("schema", 2),
    ],
)
def test_a_wrong_field_is_named_with_its_place(sweep: Path, field: str, value: object) -> None:
    rows = read_rows(sweep / "points.jsonl")
    rows[1][field] = value
    write_rows(sweep / "points.jsonl", rows)
    with pytest.raises(UserError) as caught:
        load_sweeps([sweep])
    message = str(caught.value)
    assert "points.jsonl, line 2" in message
    assert "\n" not in message


def test_foreign_directories_are_refused_in_one_line(sweep: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert_refused([], "no sweep to report on")
    assert_refused([tmp_path / "none"], "is not a directory")
    assert_refused([sweep / "sweep.json"], "is not a directory")
    assert_refused([sweep, empty], "has no sweep.json")
    change(sweep / "sweep.json", schema=9)
    assert_refused([sweep], "schema 9")
    change(sweep / "sweep.json", schema=1, model=None)
    assert_refused([sweep], "'model'")
    (sweep / "sweep.json").write_text("{")
    assert_refused([sweep], "not valid JSON")


def test_a_sweep_without_points_is_refused(sweep: Path) -> None:
    (sweep / "points.jsonl").unlink()
    assert_refused([sweep], "no points")


def test_other_files_are_checked_too(sweep: Path) -> None:
    rows = read_rows(sweep / "reliability.jsonl")
    write_rows(sweep / "reliability.jsonl", [{**rows[0], "bins": [[0.1, 0.2]]}])
    assert_refused([sweep], "reliability.jsonl, line 1: field 'bins'")
    (sweep / "reliability.jsonl").unlink()
    rows = read_rows(sweep / "examples.jsonl")
    write_rows(sweep / "examples.jsonl", [{**rows[0], "tokens": ["Paris"]}])
    assert_refused([sweep], "examples.jsonl, line 1, tokens: field 'text'")


def assert_refused(directories: list[Path], words: str) -> None:
    with pytest.raises(UserError) as caught:
        load_sweeps(directories)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
