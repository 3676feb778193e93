"""``dynexit bench``: what it prints, and what it says to mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from checkpoints import make_checkpoint
from dynexit.cli import app
from dynexit.evaluation.bench import suites
from dynexit.evaluation.bench.suites import SUITES

QUICK = ("--rounds", "1", "--tokens", "2")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "mamba2", "mamba2"))


def bench(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["bench", *arguments])


def test_json(checkpoint: str, tmp_path: Path) -> None:
    out = tmp_path / "depth.json"
    options = ("--layers", "1,3", "--state", "freeze,recompute", "--out", str(out))
    result = bench("--suite", "depth", "--model", checkpoint, *QUICK, *options, "--json")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("\n") == 1
    found = json.loads(result.stdout)
    assert found == json.loads(out.read_text())
    assert (found["suite"], found["model"], found["dtype"]) == ("depth", checkpoint, "fp32")
    assert (found["rounds"], found["tokens"], found["stopped"]) == (1, 2, False)
    exits = [(row["state"], row["exit_layer"]) for row in found["rows"]]
    assert exits == [("none", 4), *((s, n) for s in ("freeze", "recompute") for n in (1, 3))]
    machine = found["machine"]
    assert {"cpu", "threads", "torch", "date", "read_gb_per_s", "matvec_gb_per_s"} <= set(machine)


@pytest.mark.parametrize(
    "suite", ["depth", "batch", "context", "prefill", "judges", "lossless", "machine"]
)
def test_people_see_a_table(suite: str, checkpoint: str) -> None:
    options = ("--layers", "2", *QUICK, "--threads", "1")
    sizes = ("--sizes", "2,8") if suite in ("batch", "context", "prefill") else ()
    result = bench("--suite", suite, "--model", checkpoint, *options, *sizes)
    assert result.exit_code == 0, result.stderr
    assert "1 threads, PyTorch" in result.stdout
    assert f"{suite}: " in result.stdout
    assert "GB/s" in result.stdout
    assert "…" not in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_another_dtype_of_the_reference_model() -> None:
    options = ("--layers", "6", "--state", "recompute", "--dtype", "fp32", "--json")
    result = bench("--suite", "depth", *QUICK, *options)
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert (found["model"], found["dtype"]) == ("reference:mistral", "fp32")
    assert [row["exit_layer"] for row in found["rows"]] == [12, 6]


def test_stopped_with_what_is_known(checkpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[float] = []

    class Stopped(suites.Machine):
        def runs(self) -> suites.Runs:
            def stop() -> float:
                runs.append(1.0)
                if len(runs) == 2:
                    raise KeyboardInterrupt
                return 1.0

            return {"a configuration": stop}

    monkeypatch.setitem(suites._SUITES, "machine", Stopped)
    options = ("--suite", "machine", "--model", checkpoint, "--rounds", "3")
    result = bench(*options, "--json")
    assert result.exit_code == 130
    assert json.loads(result.stdout)["stopped"] is True
    assert "stopped before the last of 3 rounds" in result.stderr
    runs.clear()
    result = bench(*options)
    assert result.exit_code == 130
    assert "read" in result.stdout


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--suite", "width"), "--suite 'width' is not known; choose from depth, batch"),
        (("--shape", "gpt-9"), "--shape 'gpt-9' is not known; choose from mistral-1b"),
        (("--model", "nowhere", "--shape", "mistral-1b"), "--model and --shape each name a model"),
        (("--model", "nowhere"), "nowhere: no such directory"),
        (("--dtype", "int3"), "--dtype 'int3' is not known; choose bf16 or fp32"),
        (("--layers", "13"), "layer 13 is outside the model; give layers from 1 to 12"),
        (("--layers", "x"), "--layers 'x': give whole numbers"),
        (("--state", "freeze"), "'freeze' has no meaning for attention"),
        (("--judge", "oracle"), "--judge 'oracle' is not known"),
        (("--rounds", "0"), "--rounds 0"),
        (("--tokens", "0"), "--tokens 0"),
        (("--threads", "0"), "--threads 0"),
        (("--suite", "batch", "--sizes", "0"), "--sizes: give whole numbers of at least 1"),
        (("--suite", "context", "--sizes", "99999999"), "99999999 tokens of context are too many"),
    ],
)
def test_mistakes(options: tuple[str, ...], told: str) -> None:
    suite = () if "--suite" in options else ("--suite", "depth")
    result = bench(*suite, *options)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert told in lines[0]


def test_help_names_every_suite() -> None:
    shown = " ".join(bench("--help").stdout.replace("│", "").split())
    assert all(name in shown for name in SUITES)
