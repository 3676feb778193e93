"""The side-by-side comparison, run for real with the systems of the project's own environment."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from checkpoints import make_checkpoint
from dynexit.errors import UserError

PEERS = Path(__file__).parents[2] / "benchmarks" / "peers"
DEPTH, TOKENS = 4, 10


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripts' own modules can be imported."""
    monkeypatch.syspath_prepend(str(PEERS))


@dataclass(frozen=True)
class Outcome:
    """What the script left."""

    code: int
    text: str
    told: dict[str, Any]

    def row(self, name: str, case: str | None = None) -> dict[str, Any]:
        return next(r for r in self.told["rows"] if (r["row"], r["case"]) == (name, case))


def run(
    checkpoint: Path,
    work: Path,
    only: str,
    python: str = sys.executable,
    rounds: int = 2,
    *more: str,
) -> Outcome:
    file = work / "rows.json"
    tokens = ("--rounds", str(rounds), "--tokens", str(TOKENS), "--threads", "1")
    options = (*tokens, "--only", only, *more)
    places = ("--checkpoint", checkpoint, "--work", work, "--python", python, "--json", file)
    command = [sys.executable, PEERS / "run.py", *options, *places]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    told = json.loads(file.read_text()) if file.exists() else {}
    return Outcome(done.returncode, done.stdout + done.stderr, told)


@pytest.fixture(scope="module", params=["mistral", pytest.param("mamba2", marks=pytest.mark.slow)])
def outcome(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """dynexit at full depth and leaving, beside what is certainly not installed here."""
    work = tmp_path_factory.mktemp(request.param)
    checkpoint = make_checkpoint(work / request.param, request.param, DEPTH)
    return run(checkpoint, work, "dynexit bf16,llama.cpp BF16", python="/nowhere/python")


def test_every_system_has_figures_or_a_reason(outcome: Outcome) -> None:
    assert outcome.code == 0, outcome.text
    for row in outcome.told["rows"]:
        assert row["row"] in outcome.text.replace("\n", " ")
        if row["peer"] == "dynexit":
            assert row["low"] <= row["seconds_per_token"] <= row["high"]
            assert row["bytes_per_token"] > 0
        else:
            assert "seconds_per_token" not in row
            assert "/nowhere/python" in row["reason"]


def test_exits_read_less_and_are_compared_with_full_depth(outcome: Outcome) -> None:
    full = outcome.row("dynexit bf16")
    assert full["realised_saving"] is None
    sizes = [
        outcome.row(f"dynexit bf16, all leave at {layer}, recompute")["bytes_per_token"]
        for layer in (1, 2, 3)
    ]
    assert sizes == sorted(sizes)
    assert sizes[-1] < full["bytes_per_token"]
    half = outcome.row("dynexit bf16, all leave at 2, recompute")
    saved = 1 - half["seconds_per_token"] / full["seconds_per_token"]
    share = 1 - half["bytes_per_token"] / full["bytes_per_token"]
    assert half["realised_saving"] == pytest.approx(saved / share)


def test_what_was_run_is_told(outcome: Outcome) -> None:
    told = outcome.told
    assert (told["rounds"], told["tokens"], told["layers"]) == (2, TOKENS, DEPTH)
    assert told["machine"]["threads"] == 1
    assert set(told["versions"]) == {"dynexit"}


@pytest.mark.slow
def test_full_depth_says_what_transformers_says(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "mistral", "mistral", DEPTH)
    found = run(checkpoint, tmp_path, "transformers,dynexit bf16", rounds=1)
    best, ours = found.row("transformers"), found.row("dynexit bf16")
    assert best["candidates"].keys() == {
        "dynamic cache",
        "static cache",
        "static cache, compiled",
    }
    times = [time for time in best["candidates"].values() if isinstance(time, float)]
    assert best["seconds_per_token"] == min(times)
    assert ours["same_tokens"] == TOKENS
    ratio = best["seconds_per_token"] / ours["seconds_per_token"]
    assert ours["speed_against_transformers"] == pytest.approx(ratio)


@pytest.mark.parametrize("kind", ["mistral", pytest.param("mamba2", marks=pytest.mark.slow)])
def test_drafts_are_compared_by_whether_they_stand(kind: str, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / kind, kind, DEPTH)
    only, nowhere = "dynexit", "/nowhere/python"
    found = run(checkpoint, tmp_path, only, nowhere, 2, "--systems", "lossless")
    assert found.code == 0, found.text
    for case in ("accepted", "rejected"):
        plain = found.row("dynexit", case)
        for how in ("adaptive", "always 7"):
            row = found.row(f"dynexit lossless at 2, {how}", case)
            ratio = plain["seconds_per_token"] / row["seconds_per_token"]
            assert row["speedup"] == pytest.approx(ratio)
            assert (row["bytes_per_token"], row["gb_per_second"]) == (None, None)
    most = found.row("dynexit lossless at 2, always 7", "accepted")["drafting"]
    assert most["drafts"] == most["accepted"] == 7  # of ten tokens; the last has no room for any
    fallen = found.row("dynexit lossless at 2, always 7", "rejected")["drafting"]
    assert fallen["accepted"] < fallen["drafts"]


@pytest.mark.slow
def test_drafts_change_nothing_that_transformers_says(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "mistral", "mistral", DEPTH)
    only = "transformers,dynexit"
    found = run(checkpoint, tmp_path, only, sys.executable, 1, "--systems", "lossless")
    rows = found.told["rows"]
    assert len(rows) == 2 * (2 + 2 + 2 + 2)
    assert {row["same_tokens"] for row in rows} == {TOKENS}


def test_an_unknown_system_is_a_mistake(peers: None) -> None:
    from run import chosen
    from systems import systems

    everything = systems("mistral", 16)
    assert chosen(everything, None) == everything
    assert {one.peer for one in chosen(everything, "Q8_0, tide")} == {"llama.cpp", "TIDE"}
    with pytest.raises(UserError, match="--only gpt-fast: no system is called so"):
        chosen(everything, "gpt-fast")


@pytest.mark.parametrize("family", ["mistral", "mamba", "mamba2"])
def test_systems_have_names_of_their_own(family: str, peers: None) -> None:
    from systems import systems

    everything = systems(family, 16)
    names = [one.name for one in everything]
    assert len(set(names)) == len(names)
    rows = {one.row for one in everything}
    assert all(one.full in rows for one in everything if one.full is not None)
    assert {one.layer for one in everything if one.layer is not None} <= set(range(1, 16))


@pytest.mark.parametrize("family", ["mistral", "mamba", "mamba2"])
def test_drafting_systems_have_names_of_their_own(family: str, peers: None) -> None:
    from lossless_systems import lossless_systems

    everything = lossless_systems(family, 16)
    assert len({one.name for one in everything}) == len(everything)
    rows = {(one.case, one.row) for one in everything}
    assert all((one.case, one.full) in rows for one in everything if one.full is not None)
    assert {one.weights for one in everything} == {"identity-8", "bf16"}


WORKERS = {
    "slow": "import time; time.sleep(60)",
    "killed": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    "broken": "raise SystemExit('the library is not installed')",
    "breaks": """
import json, os, signal
print(json.dumps({"ready": True, "version": "1"}), flush=True)
input()
os.kill(os.getpid(), signal.SIGSEGV)
""",
}
REASONS = {
    "slow": "no answer within 1 s",
    "killed": "crashed with SIGSEGV",
    "broken": "the library is not installed",
    "breaks": "crashed with SIGSEGV",
}


@pytest.mark.parametrize("kind", WORKERS)
def test_a_worker_that_fails_gives_a_reason(kind: str, tmp_path: Path, peers: None) -> None:
    from process import Worker, WorkerError

    command: Sequence[str] = [sys.executable, "-c", WORKERS[kind]]
    with pytest.raises(WorkerError, match=REASONS[kind]):  # noqa: PT012 (either may raise)
        worker = Worker(command, 1, tmp_path / "log", 1.0 if kind == "slow" else 30.0)
        try:
            worker.decode(4, {}, 30.0)
        finally:
            worker.close()
