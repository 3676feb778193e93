"""The paper's experiment on small random checkpoints, from official files to the report."""

from __future__ import annotations

import csv
import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
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

from dynexit.evaluation.jsonl import read_rows
from dynexit.evaluation.tasks import load_tasks
from dynexit.evaluation.tasks.truthfulqa import PRIMER
from dynexit.models import Backbone
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
        model.save_pretrained(places[name], max_shard_size="60KB")
        assert (places[name] / "model.safetensors.index.json").exists()
        save_tokenizer(places[name])
    return places


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
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("given")
    return {**save_models(directory), "data": write_data(directory / "data")}


@pytest.fixture
def paper(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The command's module, found as Python finds it for a script."""
    monkeypatch.syspath_prepend(PAPER)
    import run

    yield run
    for name in ("run", "paper_backbone", "paper_questions"):
        sys.modules.pop(name, None)


def arguments(given: dict[str, Path], out: Path, *more: str) -> list[str]:
    paths = {"--mistral": "mistral", "--mamba": "mamba", "--data-dir": "data"}
    words = [word for option, name in paths.items() for word in (option, str(given[name]))]
    few = ["--limit", "2", "--train-limit", "4", "--dtype", "float32", "--device", "cpu"]
    return ["--out", str(out), *words, *few, *more]


def called(paper: ModuleType, words: list[str]) -> int:
    with pytest.raises(SystemExit) as end:
        paper.main(words)
    return int(end.value.code or 0)


def start(words: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(PAPER / "run.py"), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
