"""The paper's experiment on small random checkpoints, from official files to the report."""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Mamba2Config,
    Mamba2ForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
)

from dynexit.errors import UserError
from dynexit.evaluation.jsonl import read_rows
from dynexit.evaluation.tasks import load_tasks
from dynexit.evaluation.tasks.truthfulqa import PRIMER
from dynexit.models import Backbone
from dynexit.training import ExitRecipe
from evaluation.official import said, trivium, write_coqa, write_triviaqa, write_truthfulqa
from models.zoo import randomise

PAPER = Path(__file__).parents[2] / "studies" / "paper"
ITEMS = 14
LINES = [f"Who has number {n}?" for n in range(ITEMS)]


def save_tokenizer(directory: Path) -> None:
    """A BPE of a few hundred tokens, in the files of a published checkpoint."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=480,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([PRIMER, *LINES], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    fast.save_pretrained(directory)


def save_models(directory: Path) -> dict[str, Path]:
    """Both backbones, small, as transformers saves them: in shards with an index."""
    shared = {"vocab_size": 512, "hidden_size": 32, "num_hidden_layers": 4, "eos_token_id": 2}
    mistral = MistralConfig(
        **shared,
        intermediate_size=64,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=None,
        rope_theta=1e6,
        max_position_embeddings=2048,
    )
    mamba = Mamba2Config(
        **shared,
        num_heads=8,
        head_dim=8,
        state_size=16,
        n_groups=8,
        chunk_size=32,
        tie_word_embeddings=False,
    )
    made = {"mistral": MistralForCausalLM(mistral), "mamba": Mamba2ForCausalLM(mamba)}
    places = {}
    for seed, (name, model) in enumerate(made.items()):
        places[name] = directory / name
        randomise(model, seed)
        make_last_layers_the_identity(model)
        model.save_pretrained(places[name], max_shard_size="60KB")
        assert (places[name] / "model.safetensors.index.json").exists()
        save_tokenizer(places[name])
    return places


def make_last_layers_the_identity(model: torch.nn.Module) -> None:
    """So that every exit is right, and judges learn to leave."""
    for name, parameter in model.named_parameters():
        late = ".layers.2." in name or ".layers.3." in name
        if late and name.endswith(("o_proj.weight", "down_proj.weight", "out_proj.weight")):
            parameter.data.zero_()


def write_data(directory: Path) -> Path:
    """Official files of the three tasks."""
    directory.mkdir()
    fields = ("Type", "Category", "Source")
    write_truthfulqa(
        directory,
        [
            {
                **dict.fromkeys(fields, "x"),
                "Question": line,
                "Best Answer": "Ann has it",
                "Correct Answers": "Ann; Ann has it",
                "Incorrect Answers": "Nobody",
            }
            for line in LINES
        ],
    )
    stories = [
        {
            "id": f"s{n}",
            "source": "mctest",
            "story": f"Ann has number {n}. Tom has none.",
            "questions": said("Who has it?", "Which number?", "Has Tom one?"),
            "answers": said("Ann", str(n), "no"),
            "additional_answers": {"0": said("Ann has", f"number {n}", "none")},
        }
        for n in range(ITEMS)
    ]
    write_coqa(directory, stories)
    trivia = [{**trivium(f"t{n}"), "Question": line} for n, line in enumerate(LINES)]
    write_triviaqa(directory, trivia)
    return directory


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("given") / "data")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return save_models(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture
def paper(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The command's module, found as Python finds it for a script."""
    monkeypatch.syspath_prepend(PAPER)
    for name in ("run", "paper_backbone", "paper_questions"):  # others have a "run", too
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module("run")
    for name in ("run", "paper_backbone", "paper_questions"):
        sys.modules.pop(name, None)


def arguments(checkpoints: dict[str, Path], data: Path, out: Path, *more: str) -> list[str]:
    words = ["--out", str(out), "--data-dir", str(data), "--device", "cpu", "--dtype", "float32"]
    for name, directory in checkpoints.items():
        words += [f"--{name}", str(directory)]
    return [*words, "--limit", "2", "--train-limit", "4", *more]


def called(paper: ModuleType, words: list[str]) -> int:
    with pytest.raises(SystemExit) as end:
        paper.main(words)
    return int(end.value.code or 0)


def sides(paper: ModuleType, data: Path, limit: int | None = None) -> tuple[list[str], list[str]]:
    """The prompts to train on and the prompts to ask."""
    divided = importlib.import_module("paper_questions").divide(
        load_tasks(paper.TASKS, None, data), limit, limit
    )
    asked = [q.prompt for parts in divided.asked.values() for task in parts for q in task.questions]
    return [sample.prompt for sample in divided.training], asked


def test_no_question_is_on_both_sides(paper: ModuleType, data: Path) -> None:
    training, asked = sides(paper, data)
    assert len(training) + len(asked) == len({*training, *asked}) == ITEMS * 5
    stories = [
        {prompt.partition("\n\nQ: ")[0] for prompt in side if prompt.startswith("Ann has number")}
        for side in (training, asked)
    ]
    assert len(stories[0]) + len(stories[1]) == len(stories[0] | stories[1]) == ITEMS
    assert all(stories)


def test_sides_depend_on_no_order_and_no_limit(
    paper: ModuleType, data: Path, tmp_path: Path
) -> None:
    for path in data.iterdir():
        if path.suffix == ".csv":
            head, *lines = path.read_text().splitlines()
            (tmp_path / path.name).write_text("\n".join([head, *reversed(lines)]) + "\n")
        else:
            content = json.loads(path.read_text())
            field = "data" if "data" in content else "Data"
            (tmp_path / path.name).write_text(json.dumps({**content, field: content[field][::-1]}))
    assert sides(paper, tmp_path) == sides(paper, data)
    few = sides(paper, data, 2)
    assert [len(side) for side in few] == [6, 6]
    assert all({*some} < {*whole} for some, whole in zip(few, sides(paper, data), strict=True))


def test_turns_of_a_story_have_one_group(paper: ModuleType, data: Path) -> None:
    training = divided_coqa(data).training
    groups: dict[str, set[int]] = {}
    for sample in training:
        groups.setdefault(sample.prompt.partition("\n\n")[0], set()).add(sample.group)
    assert all(len(found) == 1 for found in groups.values())
    assert len(set().union(*groups.values())) == len(groups) > 1


def divided_coqa(data: Path) -> Any:
    divide = importlib.import_module("paper_questions").divide
    return divide(load_tasks(["coqa"], None, data), None, None)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--tasks", "coqa,reference"], "--tasks: 'reference' is not of the study"),
        (["--tasks", ""], "--tasks: no task named"),
        (["--thresholds", "0.5,x"], "--thresholds '0.5,x': give numbers from 0 to 1"),
        (["--thresholds", "1.5"], "--thresholds '1.5': give numbers from 0 to 1"),
        (["--layers", "2;3;1"], "--layers '2;3;1': give one list, or two"),
        (["--layers", "two"], "--layers 'two': give whole numbers"),
        (["--top-k", "0"], "top_k is 0; give a rank from 1 to 255"),
        (["--dtype", "int8"], "--dtype 'int8' is not known"),
        (["--device", "tpu9"], "--device 'tpu9' is not on this machine"),
        (["--data-dir", "/nowhere"], "--data-dir /nowhere is not a directory"),
        (["--train-limit", "1", "--tasks", "coqa"], "--train-limit: judges need prompts"),
        (["--mamba", "/nowhere"], "/nowhere: no such directory"),
        (["--limit", "-1"], "Invalid value for '--limit'"),
    ],
)
def test_mistakes(
    paper: ModuleType,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    told: str,
) -> None:
    models = dict.fromkeys(("mistral", "mamba"), Path("reference:mistral"))
    assert called(paper, arguments(models, data, tmp_path / "out", *more)) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"dynexit: {told}")
    assert message.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_too_few_questions(paper: ModuleType, tmp_path: Path) -> None:
    write_coqa(tmp_path)
    with pytest.raises(UserError, match="6 questions of coqa are too few to train on some and ask"):
        divided_coqa(tmp_path)


def test_one_backbone(
    paper: ModuleType,
    checkpoints: dict[str, Path],
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Train and sweep in this process; the model is gone afterwards."""
    division = paper._division("coqa", 2, 6, data)
    recipe = ExitRecipe(max_new_tokens=4, epochs=1)
    module = importlib.import_module("paper_backbone")
    plan = module.Plan(division, (0.5,), (1,), (0,), 0, recipe)
    there = backbones()
    name = str(checkpoints["mamba"])
    module.run_backbone(name, (2, 3), plan, tmp_path, "float32", "cpu", "command")
    assert backbones() == there
    assert "all of it takes at most about" in capsys.readouterr().err
    points = read_rows(tmp_path / "points.jsonl")
    assert {(p["judge"], p["state"]) for p in points} == {
        (judge, state)
        for judge in ("linear", "ffn", "mamba")
        for state in ("propagate", "freeze", "recompute")
    }
    assert "none of which is asked" in json.loads((tmp_path / "sweep.json").read_text())["training"]
    asked = {row["question"] for row in read_rows(tmp_path / "full.jsonl")}
    assert asked.isdisjoint(sample.prompt for sample in division.training)
    assert not (tmp_path / "exits.work").exists()


def backbones() -> int:
    gc.collect()
    return sum(type(thing) is Backbone for thing in gc.get_objects())


def start(words: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(PAPER / "run.py"), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"},
    )


def finish(words: list[str]) -> str:
    process = start(words)
    told, errors = process.communicate()
    assert process.returncode == 0, errors
    return told


def kill_at(words: list[str], reached: Callable[[], bool]) -> None:
    """Start the study and kill it as soon as it got that far."""
    process = start(words)
    while process.poll() is None and not reached():
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "the study was over before it was killed"


@pytest.mark.slow
def test_killed_anywhere_and_run_again(
    checkpoints: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    """The whole study in one go, and killed while it collects, fits, and sweeps each backbone."""
    more = ["--thresholds", "0.5,0.9", "--time", "1"]
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert finish(arguments(checkpoints, data, whole, *more)) == f"report: {whole}/report.html\n"
    words = arguments(checkpoints, data, out, *more)
    first, second = out / "mistral", out / "mamba"
    kill_at(words, lambda: any(first.glob("exits.work/store-*/shard-*")))
    shards = sorted(first.glob("exits.work/store-*/shard-*"))
    kill_at(words, lambda: (first / "exits").is_dir())
    assert sorted(first.glob("exits.work/store-*/shard-*")) == shards
    kill_at(words, lambda: (first / "points.jsonl").exists())
    left = read_rows(first / "points.jsonl")
    kill_at(words, lambda: (second / "full.jsonl").exists())
    assert untimed(read_rows(first / "points.jsonl"))[: len(left)] == untimed(left)
    finish(words)
    for name in checkpoints:
        points = read_rows(out / name / "points.jsonl")
        assert untimed(points) == untimed(read_rows(whole / name / "points.jsonl"))
        assert len(points) == 3 * 3 * 2 * 3  # judges, states, thresholds, tasks
        assert any(point["speedup"] is not None for point in points)
        assert_exits_are_right(points)
    assert_reported(out, list(checkpoints))


def untimed(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**point, "speedup": None} for point in points]


def assert_exits_are_right(points: list[dict[str, Any]]) -> None:
    """The last layers do nothing, so judges learn to leave, and answers stay the full model's."""
    exact = [p for p in points if p["state"] == "recompute"]
    assert all(p["consistency"]["answers"] == 1.0 for p in exact)
    assert any(p["layer_saving"] > 0.3 for p in exact)


def assert_reported(out: Path, backbones: list[str]) -> None:
    page, text = (out / "report.html").read_text(), (out / "report.md").read_text()
    for backbone in backbones:
        for task in ("truthfulqa", "coqa", "triviaqa"):
            assert f"### {backbone}: {task}, n = 2 questions" in text
        assert (out / f"pareto-{backbone}-flops.png").stat().st_size > 1000
    assert all(f"| {judge} |" in text for judge in ("full model", "linear", "ffn", "mamba"))
    assert text.count("none of which is asked") == len(backbones)
    assert "none of which is asked" in page


@pytest.mark.slow
def test_a_study_goes_on_only_as_it_was_begun(
    checkpoints: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    words = arguments(checkpoints, data, tmp_path, "--tasks", "triviaqa", "--time", "0")
    finish([*words, "--thresholds", "0.5"])
    report = (tmp_path / "report.md").stat().st_mtime_ns
    finish([*words, "--thresholds", "0.9"])  # more is added to what is there
    points = read_rows(tmp_path / "mamba" / "points.jsonl")
    assert {point["threshold"] for point in points} == {0.5, 0.9}
    assert (tmp_path / "report.md").stat().st_mtime_ns > report
    for option, told in {"--limit": "limit (2)", "--train-limit": "train limit (4)"}.items():
        process = start([*words, option, "3"])
        _, errors = process.communicate()
        assert process.returncode == 2
        assert f"this study was begun with other {told}; give the same" in errors
