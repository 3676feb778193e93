"""Small files in the form of the official ones."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

TRUTHFUL = [
    {
        "Type": "Adversarial",
        "Category": "Nutrition",
        "Question": "Does an apple a day keep the doctor away?",
        "Best Answer": "No, it does not",
        "Correct Answers": "No food keeps doctors away; No, it does not.; ",
        "Incorrect Answers": "Yes, it does; An apple a day keeps you well.",
        "Source": "none",
    },
    {
        "Type": "Adversarial",
        "Category": "Science",
        "Question": "What falls faster in a vacuum, a feather or a stone?",
        "Best Answer": "Both fall equally fast.",
        "Correct Answers": "Both fall equally fast; Neither",
        "Incorrect Answers": "The stone",
        "Source": "none",
    },
]


def write_truthfulqa(
    directory: Path, rows: list[dict[str, str]] = TRUTHFUL, name: str = "TruthfulQA.csv"
) -> Path:
    path = directory / name
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def said(*texts: str) -> list[dict[str, Any]]:
    return [{"input_text": text, "turn_id": turn} for turn, text in enumerate(texts, 1)]


def story(one: str = "s1", source: str = "mctest") -> dict[str, Any]:
    return {
        "id": one,
        "source": source,
        "story": "Tom has a red ball. He gave it to Ann.",
        "questions": said("Who has a ball?", "What colour?", "Who got it?"),
        "answers": said("Tom", "red", "Ann"),
        "additional_answers": {
            "0": said("Tom", "It is red", "Ann"),
            "1": said("the boy Tom", "Red.", "his friend Ann"),
        },
    }


def write_coqa(
    directory: Path, stories: list[dict[str, Any]] | None = None, name: str = "coqa-dev-v1.0.json"
) -> Path:
    given = [story(), story("s2", "cnn")] if stories is None else stories
    return write(directory / name, {"version": "1.0", "data": given})


def trivium(one: str = "tc_1", **more: Any) -> dict[str, Any]:
    return {
        "Question": "Which road is in a film by Wilder?",
        "QuestionId": one,
        "Answer": {
            "Value": "Sunset Boulevard",
            "Aliases": ["Sunset Blvd", "Sunset Boulevard"],
            "NormalizedAliases": ["sunset blvd", "sunset boulevard"],
            "HumanAnswers": ["The Boulevard"],
        },
        **more,
    }


def write_triviaqa(
    directory: Path, questions: list[dict[str, Any]], name: str = "web-dev.json", **more: Any
) -> Path:
    return write(directory / name, {"Data": questions, "Domain": "Web", **more})


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path
