"""What a sweep of a tiny model writes is what the report reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from checkpoints import make_checkpoint
from dynexit.evaluation.candidates import Wanted
from dynexit.evaluation.sweep import Grid, run_sweep
from dynexit.evaluation.tasks.reference import reference_tasks
from dynexit.models import load_model
from dynexit.reporting.report import write_report
from reporting.report.page import Page


@contextmanager
def quietly(title: str, total: int) -> Iterator[Callable[[], None]]:
    yield lambda: None


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sweep")
    model = load_model(str(make_checkpoint(directory / "checkpoint", "mamba2")))
    tasks = {"reference": [replace(t, max_new_tokens=4) for t in reference_tasks(2)[:1]]}
    wanted = Wanted(judges=("margin",), layers=((2, 3),))
    grid = Grid(thresholds=(0.05, 0.6), timed=0)
    run_sweep(model, tasks, wanted, grid, directory / "out", quietly, "dynexit sweep tiny")
    return directory / "out"


def test_report_of_a_real_sweep(sweep: Path) -> None:
    report = write_report([sweep], sweep)
    page = Page(report.read_text(encoding="utf-8"))
    for heading in ("Quality against cost", "Where tokens leave", "What scores are worth"):
        assert heading in page.headings
    assert "The questions of other tasks are taken together as reference." in page.text
    assert "dynexit sweep tiny" in page.text
    assert [row[0].split()[0] for row in page.tables[0].rows[2:]] == ["margin"]
