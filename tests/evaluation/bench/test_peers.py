"""The peers suite: what it needs, and how it passes on a plan to the script."""

from __future__ import annotations

from pathlib import Path

import pytest

from dynexit.errors import UserError
from dynexit.evaluation.bench.limits import Limits
from dynexit.evaluation.bench.peers import ENVIRONMENT, SCRIPT, Peers
from dynexit.evaluation.bench.plan import Plan
from dynexit.evaluation.bench.rounds import Found
from dynexit.evaluation.bench.suite import Row
from evaluation.bench.quick import tiny

SCRIPTED = """
import json, sys
arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
print("a table")
with open(arguments["--json"], "w") as file:
    json.dump({"rows": [arguments]}, file)
"""
REFUSING = "import sys; print('no such thing', file=sys.stderr); sys.exit(2)"


def checkout(folder: Path, script: str, installed: bool = True) -> Path:
    path = folder / SCRIPT
    path.parent.mkdir(parents=True)
    path.write_text(script)
    if installed:
        (folder / ENVIRONMENT).mkdir()
    return folder


def rows(checkout: Path, work: Path) -> list[Row]:
    subject = tiny(work, "mistral")
    limits = Limits(subject.config, subject.weight_bytes)
    suite = Peers(subject, Plan(rounds=3, tokens=1), checkout)
    assert suite.runs() == {}
    return suite.rows(Found({}), limits)


def test_the_plan_is_passed_on(tmp_path: Path) -> None:
    (row,) = rows(checkout(tmp_path / "repository", SCRIPTED), tmp_path)
    assert row["--checkpoint"] == str(tmp_path / "mistral")
    assert (row["--rounds"], row["--tokens"]) == ("3", "2")
    assert row["--python"] == str(tmp_path / "repository" / ENVIRONMENT / "bin" / "python")
    assert Path(row["--work"]).is_absolute()


def test_the_script_refuses(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the script refused"):
        rows(checkout(tmp_path / "repository", REFUSING), tmp_path)


def test_not_installed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run `make bench-peers` there"):
        rows(checkout(tmp_path / "repository", SCRIPTED, installed=False), tmp_path)
    with pytest.raises(UserError, match="clone the repository"):
        rows(tmp_path / "elsewhere", tmp_path)
