"""The command: one JSON object on standard output, one line for a mistake, the right exit code."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from checkpoints import CONTEXT, make_checkpoint
from dynexit.cli import Commands, app
from dynexit.errors import UserError
from dynexit.reference.pair import NAMES, reference_directory

COMMANDS = ("demo", "info", "generate", "chat", "train-exits", "eval", "calibrate", "sweep")
PROMPT = r"Question: What is the capital of France?\nAnswer:"
SHORT = ("--max-new-tokens", "4")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    directory = tmp_path_factory.mktemp("checkpoints")
    return {kind: str(make_checkpoint(directory / kind, kind)) for kind in NAMES}


@pytest.fixture(scope="module")
def mistral(checkpoints: dict[str, str]) -> str:
    return checkpoints["mistral"]


@pytest.fixture(scope="module")
def exits(mistral: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What train-exits says, with an exit set of the linear judge in ``out``."""
    directory = tmp_path_factory.mktemp("exits")
    data = directory / "prompts.txt"
    data.write_text("".join(f"prompt number {n}\n" for n in range(12)))
    arguments = ("--judge", "linear", "--layers", "2,3", "--epochs", "1", *SHORT)
    out = ("--data", str(data), "--out", str(directory / "linear"))
    return answer("train-exits", mistral, *arguments, *out)


def run(*arguments: str, given: bytes | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), input=given)


def answer(*arguments: str, given: bytes | None = None) -> dict[str, Any]:
    """The JSON object of a command that must do well."""
    result = run(*arguments, "--json", given=given)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("\n") == 1
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


def refusal(*arguments: str, given: bytes | None = None) -> str:
    """The one line of a user's mistake."""
    result = run(*arguments, given=given)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("dynexit: ")
    assert "Traceback" not in lines[0]
    return lines[0]


def test_help_teaches() -> None:
    whole = run("--help")
    assert whole.exit_code == 0
    assert all(name in whole.stdout for name in COMMANDS)
    for name in COMMANDS:
        told = run(name, "--help")
        assert told.exit_code == 0
        assert "Example: dynexit" in " ".join(told.stdout.split())
        assert "--json" in told.stdout


def test_nothing_asked_shows_help() -> None:
    result = run()
    assert result.exit_code == 0
    assert "Commands" in result.stdout


def test_version() -> None:
    result = run("--version")
    assert result.exit_code == 0
    assert result.stdout.startswith("dynexit 0.")


@pytest.mark.parametrize("kind", NAMES)
def test_info(checkpoints: dict[str, str], kind: str) -> None:
    found = answer("info", checkpoints[kind])
    assert (found["family"], found["layers"], found["hidden"], found["vocab"]) == (kind, 4, 32, 256)
    assert found["mixers"] == {{"mistral": "attention"}.get(kind, kind): 4}
    assert found["dtype"] == "float32"
    assert len(found["layer_table"]) == 4
    assert found["parameters"] > sum(layer["parameters"] for layer in found["layer_table"])
    assert found["bytes_per_token"] > 4 * 32 * 256
    assert found["flops_per_token"] > 2 * 32 * 256
    people = run("info", checkpoints[kind])
    assert people.exit_code == 0
    assert "1 to 4, each" in people.stdout


def test_info_reads_no_weights(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "bare", "mistral")
    (checkpoint / "model.safetensors").unlink()
    assert answer("info", str(checkpoint))["layers"] == 4


def test_generate_at_full_depth(mistral: str) -> None:
    found = answer("generate", mistral, PROMPT, *SHORT)
    assert len(found["tokens"]) == 4
    assert found["text"] == "".join(token["text"] for token in found["tokens"])
    assert {token["exit_layer"] for token in found["tokens"]} == {4}
    assert {token["score"] for token in found["tokens"]} == {None}
    assert (found["layers"], found["mean_exit_layer"]) == (4, 4.0)
    assert (found["layer_saving"], found["flop_saving"], found["byte_saving"]) == (0.0, 0.0, 0.0)
    assert (found["judge"], found["state"], found["threshold"]) == ("none", "none", None)
    assert found["finish"] == "length"
    assert found["tokens_per_second"] > 0


def test_escapes_in_the_prompt_argument(mistral: str) -> None:
    def tokens(prompt: str) -> int:
        return int(answer("generate", mistral, prompt, *SHORT)["prompt_tokens"])

    assert tokens(r"a\nb") == tokens("a\nb") == tokens(r"a\tb") == 3
    assert tokens(r"a\\nb") == 4
    assert tokens(r"a\xb") == 4


def test_prompt_from_standard_input(mistral: str) -> None:
    def tokens(given: bytes) -> int:
        found = answer("generate", mistral, "-", *SHORT, given=given)
        return int(found["prompt_tokens"])

    assert tokens(b"ab") == tokens(b"ab\n") == tokens(b"ab\r\n") == 2
    assert tokens(b"ab\n\n") == 3
    assert tokens(rb"a\nb") == 4


@pytest.mark.parametrize("state", ["copy", "propagate", "recompute"])
def test_exit_layer(mistral: str, state: str) -> None:
    found = answer("generate", mistral, "Hello", "--exit-layer", "2", "--state", state, *SHORT)
    assert [token["exit_layer"] for token in found["tokens"]] == [2] * 4
    assert found["layer_saving"] == 0.5
    assert 0 < found["flop_saving"] < 0.5
    assert (found["judge"], found["state"]) == ("fixed", state)


def test_exit_at_the_last_layer_is_full_depth(mistral: str) -> None:
    found = answer("generate", mistral, "Hello", "--exit-layer", "4", *SHORT)
    assert found["layer_saving"] == 0.0


def test_a_judge_that_needs_no_training(checkpoints: dict[str, str]) -> None:
    arguments = ("--judge", "top-probability", "--threshold", "0", "--layers", "1,3", *SHORT)
    found = answer("generate", checkpoints["mamba2"], "Hello", *arguments, "--state", "freeze")
    assert [token["exit_layer"] for token in found["tokens"]] == [1] * 4
    assert all(0 < token["score"] <= 1 for token in found["tokens"])
    same = answer("generate", checkpoints["mamba2"], "Hello", *SHORT, "--judge", "top_probability")
    assert same["judge"] == "top-probability"


def test_train_exits(exits: dict[str, Any]) -> None:
    assert [found["layer"] for found in exits["exits"]] == [2, 3]
    for found in exits["exits"]:
        assert 0 <= found["positives"] <= 1
        assert 0 <= found["accuracy"] <= 1
        assert found["auroc"] is None or 0 <= found["auroc"] <= 1
    assert (Path(exits["out"]) / "exits.json").exists()


def test_generate_with_an_exit_set(mistral: str, exits: dict[str, Any]) -> None:
    found = answer("generate", mistral, "Hello", "--exits", exits["out"], *SHORT)
    assert (found["judge"], found["state"]) == ("linear", "recompute")
    stored = [one["threshold"] for one in exits["exits"]]
    assert found["threshold"] == (stored if len(set(stored)) > 1 else stored[0])
    given = ("--judge", "linear", "--threshold", "0")
    first = answer("generate", mistral, "Hello", "--exits", exits["out"], *given, *SHORT)
    assert first["mean_exit_layer"] == 2.0
    assert first["threshold"] == 0.0


def test_people_see_the_text_and_the_depth(mistral: str) -> None:
    arguments = ("--exit-layer", "2", "--show-depth", *SHORT)
    result = run("generate", mistral, "Hello", *arguments)
    assert result.exit_code == 0
    assert "exit layer: ■ 2  ■ 4 (full depth)" in result.stdout
    assert "mean exit layer 2.0 of 4, layer saving 50.0%" in " ".join(result.stderr.split())


def test_sampling_is_repeatable(mistral: str) -> None:
    arguments = ("--temperature", "1.5", "--top-k", "50", "--seed", "3", *SHORT)
    one, two = (answer("generate", mistral, "Hello", *arguments) for _ in range(2))
    assert one["text"] == two["text"]


def test_stop(mistral: str) -> None:
    free = answer("generate", mistral, "Hello", *SHORT)
    third = free["tokens"][2]["text"]
    if third and "\\" not in third:
        found = answer("generate", mistral, "Hello", *SHORT, "--stop", third)
        assert found["finish"] == "stop"
        assert third not in found["text"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--threshold", "1.5", "--judge", "margin"), "--threshold 1.5 is outside 0 to 1"),
        (("--threshold", "-0.1", "--judge", "margin"), "--threshold -0.1 is outside"),
        (("--threshold", "nan", "--judge", "margin"), "--threshold nan is outside"),
        (("--threshold", "0.5"), "--threshold needs a judge"),
        (("--exit-layer", "0"), "--exit-layer 0 is outside the model; give 1 to 4"),
        (("--exit-layer", "5"), "--exit-layer 5 is outside the model; give 1 to 4"),
        (("--exit-layer", "2", "--judge", "margin"), "one or the other"),
        (("--judge", "margin", "--layers", "2,4"), "exit layer 4 is outside the model"),
        (("--judge", "margin", "--layers", "2;3"), "--layers '2;3': give whole numbers"),
        (("--judge", "linear"), "train-exits"),
        (("--judge", "oracle"), "--judge 'oracle' is not known; choose from linear, ffn, mamba"),
        (("--judge", "fixed"), "not known"),
        (("--judge", "none", "--exits", "x"), "leave one out"),
        (("--exits", "nowhere"), "nowhere holds no exit set"),
        (("--judge", "margin", "--state", "thaw"), "'thaw' is not known"),
        (("--judge", "margin", "--state", "freeze"), "'freeze' has no meaning for attention"),
        (("--exit-layer", "2", "--state", "freeze"), "'freeze' has no meaning for attention"),
        (("--lossless",), "--lossless drafts with exits; say which"),
        (("--dtype", "int3"), "--dtype 'int3' is not known"),
        (("--temperature", "-1"), "temperature is -1.0"),
        (("--max-new-tokens", "0"), "max_new_tokens is 0"),
        (("--max-new-tokens", "many"), "--max-new-tokens"),
        (("--stop", ""), "stop holds an empty string"),
        (("--nonsense",), "No such option"),
    ],
)
def test_mistakes_in_options(mistral: str, options: tuple[str, ...], told: str) -> None:
    assert told in refusal("generate", mistral, "Hello", *options)


def test_mistakes_in_the_prompt(mistral: str) -> None:
    assert "PROMPT is empty" in refusal("generate", mistral, "")
    assert "PROMPT is empty" in refusal("generate", mistral, "-", given=b"")
    assert "PROMPT is not UTF-8" in refusal("generate", mistral, "caf\udce9")
    assert "(byte 1)" in refusal("generate", mistral, "-", given=b"a\xff")
    long = refusal("generate", mistral, "x" * (CONTEXT + 7))
    assert str(CONTEXT + 7) in long
    assert str(CONTEXT) in long.replace(str(CONTEXT + 7), "")
    assert "Missing argument 'PROMPT'" in refusal("generate", mistral)


def test_mistakes_in_the_model(tmp_path: Path) -> None:
    assert "no such directory" in refusal("info", str(tmp_path / "none"))
    assert "config.json does not exist" in refusal("info", str(tmp_path))
    assert "no such reference model" in refusal("info", "reference:gpt")
    (tmp_path / "config.json").write_text("{")
    assert "not valid JSON" in refusal("generate", str(tmp_path), "Hello")


def test_an_exit_set_of_another_model(
    checkpoints: dict[str, str], exits: dict[str, Any], tmp_path: Path
) -> None:
    told = refusal("generate", checkpoints["mamba2"], "Hello", "--exits", exits["out"])
    assert "this model has" in told
    told = refusal(
        "generate", checkpoints["mistral"], "x", "--exits", exits["out"], "--judge", "ffn"
    )
    assert "of kind linear, not ffn" in told


def test_mistakes_in_training(mistral: str, tmp_path: Path) -> None:
    out = ("--out", str(tmp_path / "out"))
    assert "Missing option '--out'" in refusal("train-exits", mistral)
    assert "none that is trained" in refusal("train-exits", mistral, "--judge", "margin", *out)
    assert "--data" in refusal("train-exits", mistral, *out)
    assert "top_k is 0" in refusal("train-exits", mistral, "--top-k", "0", *out)
    missing = str(tmp_path / "none.txt")
    assert "none.txt" in refusal("train-exits", mistral, "--data", missing, *out)


def test_mistakes_in_eval(mistral: str) -> None:
    assert "'hellaswag' is not known" in refusal("eval", mistral, "--tasks", "hellaswag")
    assert "--limit 0" in refusal("eval", mistral, "--limit", "0")
    assert "No such command" in refusal("evaluate")


def test_eval(tmp_path: Path) -> None:
    checkpoint = str(make_checkpoint(tmp_path / "mamba2", "mamba2"))  # has no longest context
    found = answer("eval", checkpoint, "--limit", "1", "--exit-layer", "2", "--state", "propagate")
    tasks = found["tasks"]
    assert list(tasks) == ["trivia", "stories", "misconceptions", "reference"]
    assert [task["n"] for task in tasks.values()] == [1, 1, 1, 3]
    for task in tasks.values():
        assert set(task["metrics"]) == {"em", "f1"}
        assert task["layer_saving"] == pytest.approx(0.5)
        assert task["flop_saving"] > 0
        assert 0 <= task["consistency"] <= 1
        assert task["speedup"] > 0
    full = answer("eval", checkpoint, "--limit", "1", "--judge", "none")["tasks"]["reference"]
    assert (full["consistency"], full["layer_saving"], full["speedup"]) == (1.0, 0.0, 1.0)


def test_a_defect_is_told_in_one_line(mistral: str, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "odd", "mistral")
    config = json.loads((checkpoint / "config.json").read_text())
    for odd in ({"hidden_size": []}, {"num_hidden_layers": "four"}):
        (checkpoint / "config.json").write_text(json.dumps({**config, **odd}))
        result = run("info", str(checkpoint))
        assert result.exit_code in (1, 2)
        assert result.stdout == ""
        assert len(result.stderr.splitlines()) == 1


def python(*arguments: str, given: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    code = "from dynexit.cli import main; main()"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, input=given, capture_output=True, timeout=240, check=False)


def test_as_a_process(mistral: str) -> None:
    good = python("generate", mistral, "Hello", *SHORT, "--json")
    assert good.returncode == 0
    assert json.loads(good.stdout)["layers"] == 4
    assert good.stdout.count(b"\n") == 1
    bad = python("generate", mistral, "-", given=b"\xff")
    assert (bad.returncode, bad.stdout, bad.stderr.count(b"\n")) == (2, b"", 1)


def test_a_reader_that_has_seen_enough(mistral: str) -> None:
    code = "from dynexit.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "info", mistral],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    _, told = process.communicate(timeout=240)
    assert (process.returncode, told) == (0, b"")


def test_stopped_training_goes_on(mistral: str, tmp_path: Path) -> None:
    data, out = tmp_path / "prompts.txt", tmp_path / "out"
    data.write_text("".join(f"prompt {n}\n" for n in range(4000)))
    heeded = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{heeded}; from dynexit.cli import main; main()"  # ignored where tests run unattended
    arguments = ("--data", str(data), "--prompts", "4000", "--out", str(out))
    process = subprocess.Popen(
        [sys.executable, "-c", code, "train-exits", mistral, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    while not (tmp_path / "out.work").exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    printed, told = process.communicate(timeout=240)
    assert process.returncode == 130
    assert printed == b""
    assert b"run the same command again" in told
    assert b"Traceback" not in told
    assert (tmp_path / "out.work").exists()
    assert not out.exists()


def failing(error: BaseException) -> typer.Typer:
    """An application like ours with a command that fails."""
    broken = typer.Typer(cls=Commands, pretty_exceptions_enable=False)

    @broken.callback()
    def whole() -> None: ...

    @broken.command()
    def fail() -> None:
        raise error

    return broken


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("this\nis wrong"), 2, "dynexit: this is wrong"),
        (ValueError("odd"), 1, "dynexit: a defect of dynexit, please report it (ValueError: odd)"),
        (typer.Abort(), 130, "dynexit: stopped"),
        (KeyboardInterrupt(), 130, "dynexit: stopped; files already at their place are whole"),
    ],
)
def test_what_becomes_of_an_error(error: BaseException, code: int, line: str) -> None:
    result = CliRunner().invoke(failing(error), ["fail"])
    assert result.exit_code == code
    assert result.stderr.strip().startswith(line)
    assert len(result.stderr.strip().splitlines()) == 1


def test_debug_shows_the_traceback() -> None:
    for arguments in (["fail", "--debug"], ["--debug", "fail"]):
        result = CliRunner().invoke(failing(ValueError("odd")), arguments)
        assert result.exit_code == 1
        assert "Traceback" in result.stderr


def test_start_is_light() -> None:
    code = """
import sys
from dynexit.cli import app
try:
    app(["--help"])
except SystemExit as end:
    assert end.code == 0
loaded = {"torch", "transformers", "matplotlib", "numpy"} & set(sys.modules)
assert not loaded, loaded
try:
    app(["info", sys.argv[1], "--json"])
except SystemExit as end:
    assert end.code == 0
loaded = {"transformers", "matplotlib"} & set(sys.modules)
assert not loaded, loaded
"""
    found = subprocess.run([sys.executable, "-c", code, "reference:mistral"], check=False)
    assert found.returncode == 0


@pytest.fixture(params=NAMES)
def reference(request: pytest.FixtureRequest) -> str:
    """A model of the pair; absent only where a checkout has no weights at all."""
    if not reference_directory(request.param).is_dir():
        pytest.skip("the reference weights are not in this checkout; `make reference` trains them")
    return str(request.param)


def test_reference_models_answer(reference: str) -> None:
    found = answer("generate", f"reference:{reference}", PROMPT, "--stop", r"\n")
    assert found["text"].strip() == "Paris"
    assert found["finish"] == "stop"


@pytest.mark.parametrize("judge", ["linear", "ffn", "mamba"])
def test_reference_models_have_exit_sets(reference: str, judge: str) -> None:
    found = answer("generate", f"reference:{reference}", PROMPT, "--judge", judge, "--stop", r"\n")
    assert found["judge"] == judge
    assert found["text"].strip() == "Paris"


def test_reference_models_are_evaluated_with_the_mamba_judge(reference: str) -> None:
    found = answer("eval", f"reference:{reference}", "--limit", "2")
    assert found["judge"] == "mamba"
    assert found["tasks"]["reference"]["n"] == 6


@pytest.mark.slow
def test_demo(tmp_path: Path) -> None:
    found = answer("demo", "--out", str(tmp_path / "demo"))
    columns = ("model", "judge", "state", "accuracy", "consistency", "layer_saving")
    for row in found["rows"]:
        assert {*columns, "flop_saving", "speedup", "threshold", "n"} == set(row)
    ways = {(row["model"], row["judge"], row["state"]) for row in found["rows"]}
    for name, states in {"mistral": ("copy",), "mamba2": ("freeze",)}.items():
        for state in (*states, "propagate", "recompute"):
            assert (f"reference:{name}", "mamba", state) in ways
        for judge in ("linear", "ffn", "margin", "entropy", "saturation", "patience"):
            assert (f"reference:{name}", judge, "recompute") in ways
    assert (tmp_path / "demo" / "accuracy_vs_flops.png").read_bytes().startswith(b"\x89PNG")
