"""The judges suite: a row for every kind, with its shares and overhead."""

from __future__ import annotations

from pathlib import Path

import pytest

from dynexit.errors import UserError
from dynexit.evaluation.bench.judging import NAMES, judge_of
from dynexit.exits.judges import JUDGES
from evaluation.bench.quick import assert_seconds, run, tiny

KEYS = {
    *("what", "judge", "seconds", "low", "high"),
    *("share_of_layer", "share_of_readout", "overhead"),
}


@pytest.mark.parametrize("kind", ["mistral", "mamba2"])
def test_rows(kind: str, tmp_path: Path) -> None:
    report = run("judges", tiny(tmp_path, kind), rounds=1)
    assert all(set(row) == KEYS for row in report.rows)
    assert_seconds(report.rows)
    layer, readout, token, *checks = report.rows
    assert [row["what"] for row in report.rows[:3]] == ["layer", "readout", "token"]
    assert [row["judge"] for row in checks] == [name for name in NAMES if name != "fixed"]
    assert {*JUDGES} - {"fixed"} < {row["judge"] for row in checks}
    assert layer["share_of_layer"] == readout["share_of_readout"] == 1.0
    assert token["overhead"] is None
    for row in checks:
        assert row["what"] == "check"
        assert row["share_of_layer"] == pytest.approx(row["seconds"] / layer["seconds"])
        assert row["share_of_readout"] == pytest.approx(row["seconds"] / readout["seconds"])
        assert row["overhead"] > -1


def test_judges_as_asked(tmp_path: Path) -> None:
    asked = ("linear", "top_probability+screen")
    report = run("judges", tiny(tmp_path, "mistral"), rounds=1, judges=asked, layers=(3,))
    assert [row["judge"] for row in report.rows[3:]] == ["linear", "top-probability+screen"]


def test_every_name_makes_a_judge(tmp_path: Path) -> None:
    subject = tiny(tmp_path, "mamba2")
    for name in NAMES:
        judge = judge_of(subject, name, (1, 3))
        assert judge.layers == (1, 3)
        assert judge.kind == name.removesuffix("+screen")
        if name.endswith("+screen"):
            assert not judge.needs_logits()


def test_mistakes(tmp_path: Path) -> None:
    subject = tiny(tmp_path, "mistral")
    with pytest.raises(UserError, match=r"'linear\+screen' is not known"):
        run("judges", subject, judges=("linear+screen",))
    with pytest.raises(UserError, match="exit layer 4 is outside the model"):
        run("judges", subject, layers=(4,))
