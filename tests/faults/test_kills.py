"""A few kills of each long operation; many of them are ``make faults``."""

from __future__ import annotations

from pathlib import Path

import pytest

from faults.kills import kill_and_resume, undisturbed
from faults.operations import make_inputs, operations

QUICK = ("collection", "quantisation")
SEED = 1


def killed(name: str, kills: int, place: Path) -> None:
    make_inputs(place / "inputs")
    operation = operations(place / "inputs")[name]
    expected = undisturbed(operation, place / name)
    told = kill_and_resume(operation, expected, place / name, kills, SEED)
    assert told.kills == told.by_time + told.by_step == kills
    assert told.runs_to_the_end
    assert told.differences == []


@pytest.mark.parametrize("name", QUICK)
def test_a_killed_operation_resumes_to_the_undisturbed_result(name: str, tmp_path: Path) -> None:
    killed(name, 2, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["training", "fine-tuning", "sweep", "calibration"])
def test_longer_operations_do_too(name: str, tmp_path: Path) -> None:
    killed(name, 3, tmp_path)
