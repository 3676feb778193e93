"""A task is data: what is asked, where an answer ends, and how it is scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Question:
    """One prompt and its gold answers, the best first.

    A turn of a conversation is a question whose prompt holds the turns before it with their gold
    answers, as CoQA is evaluated. ``level`` and ``kind`` group scores; 0 and "" are no group.
    """

    prompt: str
    answers: tuple[str, ...]
    false_answers: tuple[str, ...] = ()
    level: int = 0
    kind: str = ""


Score = Callable[[str, Question], Mapping[str, float]]


@dataclass(frozen=True)
class Task:
    """Questions in order. ``score`` gives the metrics, in [0, 1], of one answer to one of them;
    decoding ends at any of ``stop`` or after ``max_new_tokens``."""

    name: str
    questions: tuple[Question, ...]
    score: Score
    stop: tuple[str, ...]
    max_new_tokens: int
