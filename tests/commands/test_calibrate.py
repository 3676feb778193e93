"""The command: certificates for the reference pair, ladders, refusals, and its JSON."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from dynexit.calibration import load_certificate, load_certificates
from dynexit.cli import app
from dynexit.exits.choice import DRAFT_THRESHOLD
from dynexit.exits.fingerprint import fingerprint
from dynexit.models import load_model
from dynexit.reference.pair import exits_directory

MISTRAL = "reference:mistral"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["calibrate", *arguments])


def answer(*arguments: str) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("\n") == 1
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


def refusal(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    return result.stderr


def test_ladder_is_certified_and_saved(tmp_path: Path) -> None:
    exits = tmp_path / "exits"
    shutil.copytree(exits_directory("mistral", "mamba"), exits)
    (exits / "calibration.json").unlink(missing_ok=True)
    found = answer(MISTRAL, "--exits", str(exits), "--limit", "8", "--risk", "0.15,0.3,0.01")
    assert found["n"] == sum(found["tasks"].values()) == 24
    first, second, hopeless = found["ladder"]
    assert {name: found[name] for name in first} == first
    assert first["valid"]
    assert second["valid"]
    assert first["risk"] == 0.15
    assert second["threshold"] <= first["threshold"]
    for rung in (first, second):
        assert rung["empirical_risk"] < rung["risk"]
        assert rung["p_value"] <= 0.05
        assert rung["needed_n"] is None
    assert second["layer_saving"] >= first["layer_saving"]
    assert not hopeless["valid"]
    assert hopeless["threshold"] is None
    assert hopeless["needed_n"] == 299  # no loss at the safest threshold, 0.99^299 < 0.05
    assert len(hopeless["tested"]) == 1
    assert found["certificate"] == str(exits / "calibration.json")
    backbone = fingerprint(load_model(MISTRAL).backbone)
    saved = load_certificates(exits, backbone)
    assert [c.risk for c in saved] == [0.15, 0.3]
    assert saved[0].thresholds == (first["threshold"],) * 2
    assert load_certificate(exits, 0.3, risk_kind="text").p_value == second["p_value"]
    assert not (tmp_path / "exits.calibration").exists()


def test_lossless_certifies_what_needs_no_verification(tmp_path: Path) -> None:
    out = tmp_path / "out"
    path = tmp_path / "mine.txt"
    path.write_text("".join(f"Q: What is {a} and {b}?\n" for a in "abcd" for b in "xyz"))
    data = ("--data", str(path), "--max-new-tokens", "8")
    found = answer(MISTRAL, "--lossless", *data, "--risk", "0.3,0.01", "--out", str(out))
    bold, hopeless = found["ladder"]
    assert found["state"] == "verified"
    assert bold["valid"]
    assert not hopeless["valid"]
    assert hopeless["empirical_risk"] == 0.0  # nearly all drafts are verified
    assert 0.5 < bold["threshold"] < 0.9999
    assert bold["layer_saving"] > 0.0
    (saved,) = load_certificates(out, fingerprint(load_model(MISTRAL).backbone))
    assert (saved.state, saved.threshold) == ("verified", bold["threshold"])
    assert saved.thresholds == (DRAFT_THRESHOLD,) * 2
    assert not (tmp_path / "out.calibration").exists()
    left = out / ".calibration.0123456789ab.json"  # by a process that was killed
    left.write_text("{")
    answer(MISTRAL, *data, "--risk", "0.3", "--out", str(out))
    assert not left.exists()
    both = load_certificates(out)
    assert {c.state for c in both} == {"verified", "recompute"}


def test_none_valid_is_told_and_no_mistake(tmp_path: Path) -> None:
    arguments = (MISTRAL, "--limit", "2", "--risk-kind", "em", "--out", str(tmp_path / "out"))
    result = run(*arguments)
    assert result.exit_code == 0
    told = " ".join(result.stdout.split())
    assert "none valid" in told
    assert "no threshold is valid with 6 questions" in told
    assert "59 questions would do" in told
    assert load_certificates(tmp_path / "out") == ()


def test_own_prompts_and_a_judge_without_training(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("".join(f"Q: What is {a} and {b}?\n" for a in "abcdef" for b in "xyz"))
    arguments = ("--data", str(path), "--judge", "margin", "--max-new-tokens", "4")
    found = answer(MISTRAL, *arguments, "--risk", "0.4", "--risk-kind", "answer")
    assert found["tasks"] == {"prompts": 18}
    assert found["judge"] == "margin"
    assert found["certificate"] is None  # a judge without a directory, and no --out
    assert "f1" in refusal(MISTRAL, *arguments, "--risk-kind", "f1")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--risk", "1.5"), "--risk '1.5': give numbers between 0 and 1"),
        (("--risk", "low"), "--risk 'low': give numbers"),
        (("--risk", ""), "--risk"),
        (("--confidence", "1"), "--confidence 1"),
        (("--limit", "0"), "--limit 0"),
        (("--risk-kind", "bleu"), "choose from text, tokens, answer, f1, em"),
        (("--tasks", "squad"), "squad"),
        (("--judge", "none"), "nothing to calibrate"),
        (("--lossless", "--state", "copy"), "--state copy"),
        (("--data", "/nowhere.txt"), "nowhere.txt"),
    ],
)
def test_refusals(arguments: tuple[str, ...], told: str) -> None:
    line = refusal(MISTRAL, *arguments)
    assert told in line
    assert line.count("\n") == 1


def test_another_models_certificates_are_not_overwritten(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    answer(MISTRAL, "--limit", "2", "--risk", "0.5", "--confidence", "0.9", "--out", out)
    before = (tmp_path / "out" / "calibration.json").read_bytes()
    told = refusal("reference:mamba2", "--limit", "2", "--risk", "0.5", "--out", out)
    assert "calibrate again" in told
    assert (tmp_path / "out" / "calibration.json").read_bytes() == before
