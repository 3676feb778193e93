"""``--risk``: the certified threshold is used, and only for the judge that it was made for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from dynexit import load
from dynexit.cli import app
from dynexit.evaluation.certified import certified_drafting
from dynexit.exits.choice import Choice
from dynexit.exits.exit_set import load_exit_set, save_exit_set
from dynexit.exits.judges.trained import TrainedJudge
from dynexit.inference.speculative import Lossless
from dynexit.models import load_model
from dynexit.reference.pair import exits_directory

MODEL, RISK = "reference:mistral", "0.3"
QUESTION = "Question: What is the capital of France?\nAnswer:"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture(scope="module")
def exits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("certified") / "exits"
    shutil.copytree(exits_directory("mistral", "linear"), place)
    (place / "calibration.json").unlink(missing_ok=True)
    prompts = place.with_name("prompts.txt")
    prompts.write_text("".join(f"Q: What is {a} and {b}?\n" for a in "abcd" for b in "xyz"))
    quick = ("--lossless", "--data", str(prompts), "--max-new-tokens", "3")
    for questions in (("--limit", "8"), quick):
        words = ("--exits", str(place), "--risk", RISK, *questions)
        result = run("calibrate", MODEL, *words)
        assert result.exit_code == 0, result.stderr
    return place


def certified_threshold(place: Path, state: str = "recompute") -> float:
    content = json.loads((place / "calibration.json").read_text())
    (own,) = (c for c in content["certificates"] if c["state"] == state)
    return float(own["threshold"])


def test_certified_threshold_is_used(exits: Path) -> None:
    result = run("generate", MODEL, QUESTION, "--exits", str(exits), "--risk", RISK, "--json")
    assert result.exit_code == 0, result.stderr
    given = str(certified_threshold(exits))
    same = run("generate", MODEL, QUESTION, "--exits", str(exits), "--threshold", given, "--json")
    assert json.loads(result.stdout)["tokens"] == json.loads(same.stdout)["tokens"]


def test_eval_tells_the_certified_threshold(exits: Path) -> None:
    options = ("--exits", str(exits), "--risk", RISK, "--limit", "1", "--json")
    result = run("eval", MODEL, *options)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["threshold"] == certified_threshold(exits)


def test_certified_drafts_are_left_unverified(exits: Path) -> None:
    options = ("--exits", str(exits), "--lossless", "--risk", RISK, "--json")
    below = certified_threshold(exits, "verified")
    measured = json.loads(run("eval", MODEL, *options, "--limit", "1").stdout)
    assert measured["verify_below"] == below
    assert not measured["lossless"]
    result = run("generate", MODEL, QUESTION, *options)
    assert result.exit_code == 0, result.stderr
    how = Lossless(adapt=False, verify_below=below)
    python = load(MODEL, exits=exits, risk=float(RISK), lossless=True)
    said = python.generate(QUESTION)
    plain = load(MODEL, exits=exits, lossless=how).generate(QUESTION)
    told = json.loads(result.stdout)
    assert told["text"] == said.text == plain.text
    assert [t["exit_layer"] for t in told["tokens"]] == [t.exit_layer for t in plain.tokens]


def test_drafting_is_as_it_was_certified() -> None:
    certified = Choice(None, verify_below=0.9)
    asked = Lossless(strict=True)
    made = certified_drafting(certified, asked)
    assert made == Lossless(strict=True, adapt=False, verify_below=0.9)
    assert certified_drafting(certified, None) is None
    assert certified_drafting(Choice(None), asked) is asked


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--risk", "0.01"), "no certificate of risk 0.01"),
        (("--risk", "0.01", "--lossless"), "state verified"),
        (("--risk", RISK, "--lossless", "--verify-below", "0.9"), "leave --verify-below out"),
        (("--risk", RISK, "--lossless", "--max-draft", "3"), "leave --max-draft out"),
        (("--risk", RISK, "--threshold", "0.5"), "leave --threshold out"),
        (("--risk", RISK, "--state", "copy"), "state copy"),
    ],
)
def test_contradictions_are_refused(exits: Path, options: tuple[str, ...], words: str) -> None:
    result = run("generate", MODEL, QUESTION, "--exits", str(exits), *options)
    assert result.exit_code == 2
    assert words in result.stderr


def test_other_weights_are_refused(exits: Path, tmp_path: Path) -> None:
    place, backbone = tmp_path / "exits", load_model(MODEL).backbone
    others = load_exit_set(exits, backbone)
    assert isinstance(others.judge, TrainedJudge)
    with torch.no_grad():
        for weight in others.judge.parameters():
            weight.mul_(2)
    save_exit_set(place, others, backbone)
    shutil.copy(exits / "calibration.json", place)
    result = run("generate", MODEL, QUESTION, "--exits", str(place), "--risk", RISK)
    assert result.exit_code == 2
    assert "calibrate again" in result.stderr


@pytest.mark.parametrize("name", ["mistral", "mamba2"])
def test_shipped_exits_have_certificates(name: str) -> None:
    bold, safe = (
        json.loads(run("generate", f"reference:{name}", QUESTION, "--risk", r, "--json").stdout)
        for r in ("0.1", "0.01")
    )
    assert bold["mean_exit_layer"] <= safe["mean_exit_layer"]
