"""The whole report: its figures are those of the rows, and it needs and runs nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread

from dynexit.errors import UserError
from dynexit.reporting.report import write_report
from reporting.report.page import Page
from reporting.report.sweeps import read_rows, write_rows, write_sweep

JUDGES = ("mamba", "top-probability")
TASKS = ("trivia", "stories")
SECTIONS = [
    "Accuracy, consistency and savings",
    "Quality against cost",
    "Where tokens leave",
    "What scores are worth",
    "Difficulty and depth",
    "Answers by depth",
    "Certificates",
    "All settings",
    "Setup",
]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sweep(
        tmp_path_factory.mktemp("sweep"), judges=JUDGES, states=("recompute",), tasks=TASKS
    )


@pytest.fixture(scope="module")
def report(sweep: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report([sweep], tmp_path_factory.mktemp("out") / "new")


@pytest.fixture(scope="module")
def page(report: Path) -> Page:
    return Page(report.read_text(encoding="utf-8"))


def chosen(rows: list[dict[str, Any]], task: str, judge: str) -> dict[str, Any]:
    """The setting that the rule names, worked out from the rows."""
    own = [row for row in rows if (row["task"], row["judge"]) == (task, judge)]
    safe = [row for row in own if row["consistency"]["answers"] >= 0.97]
    if safe:
        return max(safe, key=lambda row: row["flop_saving"])
    return max(own, key=lambda row: (row["consistency"]["answers"], row["flop_saving"]))


def figures(row: dict[str, Any]) -> list[str]:
    shares = [row["metrics"]["em"], row["consistency"]["answers"], row["flop_saving"]]
    shares += [row["byte_saving"], row["layer_saving"]]
    return [f"{100 * share:.1f}%" for share in shares] + [f"{row['speedup']:.2f}x"]


def plain(text: str) -> str:
    return text.replace("\u2212", "-")


def test_table_holds_the_figures_of_the_rows(sweep: Path, page: Page) -> None:
    rows = read_rows(sweep / "points.jsonl")
    for table, task in zip(page.tables, TASKS, strict=False):
        assert table.caption == f"{task}, n = 40 questions; accuracy is exact match"
        head, full, *judges = table.rows
        assert head[1:] == [
            "accuracy",
            "consistency",
            "FLOP saving",
            "byte saving",
            "layer saving",
            "speedup",
        ]
        assert full[:2] == ["full model", "61.0%"]
        assert [row[0].split()[0] for row in judges] == list(JUDGES)
        for row, judge in zip(judges, JUDGES, strict=True):
            best = chosen(rows, task, judge)
            assert [plain(cell).split()[0] for cell in row[1:]] == figures(best)
            assert f"{best['state']}, threshold {best['threshold']:g}" in row[0]


def test_intervals_hold_the_figure(page: Page) -> None:
    seen = 0
    for table in page.tables[: len(TASKS)]:
        for row in table.rows[2:]:
            for cell in map(plain, row[1:4]):
                value, low, high = map(float, re.findall(r"-?\d+\.\d", cell))
                assert low <= value <= high
                seen += low < high
    assert seen >= 4


def test_rule_is_said_and_marked(sweep: Path, page: Page, report: Path) -> None:
    rows = read_rows(sweep / "points.jsonl")
    for table, task in zip(page.tables, TASKS, strict=False):
        for row, judge in zip(table.rows[2:], JUDGES, strict=True):
            unsafe = chosen(rows, task, judge)["consistency"]["answers"] < 0.97
            assert ("†" in row[0]) == unsafe
    assert "the largest FLOP saving among settings of which at least 97%" in page.text


def test_markdown_has_the_same_table(sweep: Path, report: Path) -> None:
    rows = read_rows(sweep / "points.jsonl")
    text = report.with_name("report.md").read_text(encoding="utf-8")
    for task in TASKS:
        part = text.split(f"### reference:mistral: {task}, n = 40 questions")[1]
        lines = part.split("\n\n")[2].splitlines()[3:]
        for line, judge in zip(lines, JUDGES, strict=True):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            assert cells[0].split()[0] == judge
            found = [plain(cell).split()[0] for cell in cells[2:]]
            assert found == figures(chosen(rows, task, judge))


def test_all_settings_are_in_their_table(sweep: Path, page: Page) -> None:
    rows = read_rows(sweep / "points.jsonl")
    table = next(table for table in page.tables if table.caption.startswith("All "))
    assert len(table.rows) == len(rows) + 1
    found = sorted(tuple(plain(cell) for cell in row[7:13]) for row in table.rows[1:])
    assert found == sorted(tuple(figures(row)) for row in rows)


def test_every_section_is_there(page: Page) -> None:
    assert [heading for heading in page.headings if heading in SECTIONS] == SECTIONS
    anchors = {value for value in page.values("href") if value.startswith("#")}
    assert {anchor[1:] for anchor in anchors} <= set(page.values("id"))


def test_page_asks_nothing_of_the_network(report: Path, page: Page) -> None:
    text = report.read_text(encoding="utf-8")
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", text)
    assert all(value.startswith("#") for value in page.values("href"))
    assert page.values("src") == []
    assert page.tags["script"] == 1
    assert "default-src 'none'" in page.values("content")[0]


def test_page_is_told_to_everyone(page: Page) -> None:
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    figures_labelled = [v for t, n, v in page.attributes if (t, n) == ("svg", "aria-label")]
    assert len(figures_labelled) == page.tags["figure"] == page.tags["figcaption"]
    assert all("n = " in label for label in figures_labelled)
    assert page.tags["caption"] == page.tags["table"]
    assert page.tags["h1"] == page.tags["main"] == 1


def test_marks_tell_what_they_are(sweep: Path, page: Page, report: Path) -> None:
    rows = [row for row in read_rows(sweep / "points.jsonl") if row["task"] == "trivia"]
    text = report.read_text(encoding="utf-8")
    for row in rows:
        way = f"{row['judge']}, recompute, threshold {row['threshold']:g}"
        told = f"{way}: accuracy {figures(row)[0]}, FLOPs {100 - 100 * row['flop_saving']:.1f}% of"
        assert text.count(told) >= 1
        assert text.count(f"{way}: accuracy") == 2 * 3  # tasks and costs


def test_answers_are_whole_with_their_layers(sweep: Path, page: Page) -> None:
    example = read_rows(sweep / "examples.jsonl")[0]
    told = "".join(f"{t['text']}{t['exit_layer']}" for t in example["tokens"])
    assert told in page.text
    assert f"score {example['tokens'][0]['score']:.3f}" in "".join(page.values("title"))


def test_pictures_are_whole_and_named_in_markdown(report: Path) -> None:
    names = {path.name for path in report.parent.glob("*.png")}
    linked = re.findall(r"!\[[^]]*\]\(([^)]+)\)", report.with_name("report.md").read_text("utf-8"))
    assert set(linked) == names
    assert len(names) == 6
    for name in names:
        assert imread(report.with_name(name)).std() > 0.01
    assert {path.suffix for path in report.parent.iterdir()} == {".png", ".html", ".md"}


def test_names_and_answers_are_text_and_never_markup(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    task = 'tri"via$x^$<b>'
    directory = write_sweep(
        tmp_path / "s", model=f"m/{evil}", judges=("mamba",), answer=evil, tasks=(task,), n=8
    )
    about = json.loads((directory / "sweep.json").read_text())
    about["command"] = evil
    (directory / "sweep.json").write_text(json.dumps(about))
    report = write_report([directory], tmp_path / "out")
    page = Page(report.read_text(encoding="utf-8"))
    assert page.tags["script"] == 1
    assert page.tags["img"] == page.tags["b"] == 0
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert evil in page.text
    assert task in page.text
    text = report.with_name("report.md").read_text(encoding="utf-8")
    assert "<script" not in text.replace("\\<script", "")


def test_what_was_not_measured_has_no_section(tmp_path: Path) -> None:
    directory = write_sweep(tmp_path / "s", judges=("mamba",), tasks=TASKS[:1], n=8, timed=False)
    for name in ("reliability.jsonl", "examples.jsonl", "calibration.json"):
        (directory / name).unlink()
    rows = read_rows(directory / "points.jsonl")
    for row in rows:
        row["questions"] = {}
        row["exit_layers"] = {}
    write_rows(directory / "points.jsonl", rows)
    page = Page(write_report([directory], tmp_path / "out").read_text(encoding="utf-8"))
    kept = {SECTIONS[0], SECTIONS[1], "All settings", "Setup"}
    assert {heading for heading in page.headings if heading in SECTIONS} == kept
    assert not [heading for heading in page.headings if "against time" in heading]
    assert page.tables[0].rows[2][-1] == "–"
    assert "[" not in page.tables[0].rows[2][1]


def test_a_report_that_can_not_be_written_is_told(sweep: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="cannot write"):
        write_report([sweep], tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
    with pytest.raises(UserError, match="cannot write"):
        write_report([sweep], tmp_path / "file" / "below")
