"""Suites run in moments: few rounds and tokens, and little memory read to find its bandwidth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from checkpoints import make_checkpoint
from dynexit.evaluation.bench.plan import Plan
from dynexit.evaluation.bench.subject import Subject, open_model
from dynexit.evaluation.bench.suite import Row
from dynexit.evaluation.bench.suites import BenchReport, bench

READ_BYTES = 1 << 20


@contextmanager
def silent(title: str, total: int) -> Iterator[Callable[[], None]]:
    """Nobody listens."""
    yield lambda: None


def tiny(directory: Path, kind: str, depth: int = 4) -> Subject:
    """A random model of a few thousand weights."""
    return open_model(str(make_checkpoint(directory / kind, kind, depth)))


def run(
    suite: str, subject: Subject, rounds: int = 2, tokens: int = 3, **more: object
) -> BenchReport:
    """The report of a suite."""
    plan = Plan(rounds, tokens, **more)  # type: ignore[arg-type]
    return bench(suite, subject, plan, silent, READ_BYTES)


def assert_seconds(rows: list[Row]) -> None:
    """Every row has a time with its spread."""
    for row in rows:
        assert 0 < row["low"] <= row["seconds"] <= row["high"]


def rate(row: Row, tokens: int = 1) -> object:
    """What ``tokens_per_second`` must be."""
    return pytest.approx(tokens / row["seconds"])
