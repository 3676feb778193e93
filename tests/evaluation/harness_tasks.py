"""Small tasks of lm-evaluation-harness, as files in a directory."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from dynexit.evaluation.tasks import Question
from dynexit.evaluation.tasks.reference import reference_tasks

ANSWERS, CHOICES, TEXTS = "tiny_answers", "tiny_choices", "tiny_texts"
TRUTHFUL_ANSWERS, TRUTHFUL_CHOICES = "truthful_answers", "truthful_choices"
EXACT = {"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}


def write_task(
    directory: Path, name: str, rows: Sequence[Mapping[str, Any]], config: Mapping[str, Any]
) -> None:
    """A task of ``rows`` in ``directory``, for ``--include_path``."""
    data = directory / f"{name}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    whole = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {
            "data_files": {"test": str(data)},
            "cache_dir": str(directory / "cache"),
        },
        "test_split": "test",
        **config,
    }
    (directory / f"{name}.yaml").write_text(yaml.safe_dump(whole), encoding="utf-8")


def write_tiny_tasks(directory: Path, questions: int = 3) -> Path:
    """One task of each kind of request, on the first questions of the reference tasks."""
    tasks = {task.name: task for task in reference_tasks(questions)}
    asked = [question for task in tasks.values() for question in task.questions]
    rows = [
        {"prompt": question.prompt, "answer": question.answers[0], "choices": _choices(question)}
        for question in asked
    ]
    answers = {
        "output_type": "generate_until",
        "doc_to_text": "{{prompt}}",
        "doc_to_target": " {{answer}}",
        "target_delimiter": "",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 12},
        "metric_list": [{**EXACT, "ignore_case": True}],
    }
    write_task(directory, ANSWERS, rows, answers)
    choices = {
        "output_type": "multiple_choice",
        "doc_to_text": "{{prompt}}",
        "doc_to_choice": "choices",
        "doc_to_target": 0,
        "target_delimiter": " ",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    }
    write_task(directory, CHOICES, rows, choices)
    texts = {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{prompt}}",
        "metric_list": [{"metric": "word_perplexity"}, {"metric": "bits_per_byte"}],
    }
    write_task(directory, TEXTS, rows, texts)
    return directory


def _choices(question: Question) -> list[str]:
    return [*question.answers[:1], *(question.false_answers or ("the moon", "seven", "a red fox"))]


def write_truthfulqa(directory: Path, file: Path) -> int:
    """All questions of TruthfulQA.csv, to answer and to choose the best answer of; how many."""
    with file.open(encoding="utf-8", newline="") as lines:
        rows = [
            {
                "question": row["Question"],
                "best": row["Best Answer"],
                "choices": [row["Best Answer"], *_split(row["Incorrect Answers"])],
            }
            for row in csv.DictReader(lines)
        ]
    question = {"doc_to_text": "Q: {{question}}\nA:", "num_fewshot": 0}
    answers = {
        **question,
        "output_type": "generate_until",
        "doc_to_target": " {{best}}",
        "target_delimiter": "",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 32},
        "metric_list": [EXACT],
    }
    write_task(directory, TRUTHFUL_ANSWERS, rows, answers)
    choices = {
        **question,
        "output_type": "multiple_choice",
        "doc_to_choice": "choices",
        "doc_to_target": 0,
        "metric_list": [{"metric": "acc"}],
    }
    write_task(directory, TRUTHFUL_CHOICES, rows, choices)
    return len(rows)


def _split(answers: str) -> list[str]:
    return [answer for part in answers.split(";") if (answer := part.strip())]
