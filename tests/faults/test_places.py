"""A full disk and a read-only directory: one clear line, nothing half-written, and it goes on."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from faults.kills import undisturbed
from faults.operations import make_inputs, operations
from faults.places import Outcome, can_mount, on_disk_of, read_only

if sys.platform != "linux":
    pytest.skip("disks of a few bytes are made as Linux makes them", allow_module_level=True)

QUICK = ("collection", "quantisation")
SLOW = ("training", "fine-tuning", "sweep", "calibration")
EVERY = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
PAGE = 4096


def refusal(outcome: Outcome) -> str:
    """The one line of a run that could not write, which left nothing behind."""
    assert outcome.code == 2, "\n".join(outcome.lines)
    told = [line for line in outcome.lines if line.startswith("dynexit: ")]
    assert len(told) == 1, "\n".join(outcome.lines)
    assert not any("Traceback" in line for line in outcome.lines)
    assert outcome.whole == []
    assert outcome.temporary == []
    return told[0]


@pytest.mark.parametrize("name", EVERY)
def test_full_disk(name: str, tmp_path: Path) -> None:
    """From a disk of one page to one that is large enough, each some times the one before."""
    if not can_mount():
        pytest.skip("this system lets a process mount nothing")
    make_inputs(tmp_path / "inputs")
    operation = operations(tmp_path / "inputs")[name]
    expected = undisturbed(operation, tmp_path / "whole")
    pages, refusals = 1, 0
    while True:
        first, second = on_disk_of(pages * PAGE, operation, tmp_path / "small" / "place")
        shutil.rmtree(tmp_path / "small")
        if first.code == 0:
            break
        line = refusal(first)
        assert "disk is full" in line or "the disk has" in line
        assert "free space" in line
        assert str(tmp_path / "small" / "place") in line or name == "sweep"  # which works there
        assert second.code == 0, "\n".join(second.lines)
        assert second.result == expected.result
        assert second.temporary == []
        refusals, pages = refusals + 1, pages * (4 if name in QUICK else 2)
    assert first.result == expected.result
    assert refusals > 1


@pytest.mark.parametrize("name", EVERY)
def test_read_only_directory(name: str, tmp_path: Path) -> None:
    make_inputs(tmp_path / "inputs")
    operation = operations(tmp_path / "inputs")[name]
    outcome = read_only(operation, tmp_path / "place" / "here")
    line = refusal(outcome)
    assert "cannot write" in line
    assert "permission denied" in line
    assert list((tmp_path / "place" / "here").iterdir()) == []
