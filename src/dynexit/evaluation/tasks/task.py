"""A task is data: what is asked, where an answer ends, and how it is scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

History = Literal["gold", "own"]
HISTORIES: tuple[History, ...] = get_args(History)


@dataclass(frozen=True)
class Question:
    """One prompt and its gold answers, the best first.

    A turn of a conversation is a question whose prompt holds the turns before it with their gold
    answers. Where ``pieces`` are given, the model's own answers stand there instead: between the
    pieces, each after a space. The turns before it are then the questions just before it, whose
    pieces are its own but the last. ``level`` and ``kind`` group scores; 0 and "" are no group.
    """

    prompt: str
    answers: tuple[str, ...]
    false_answers: tuple[str, ...] = ()
    level: int = 0
    kind: str = ""
    pieces: tuple[str, ...] = ()

    @property
    def options(self) -> tuple[str, ...]:
        """What a multiple-choice question offers, right answers first."""
        return self.answers + self.false_answers


Score = Callable[[str, Question], Mapping[str, float]]
Weigh = Callable[[Sequence[float], Question], Mapping[str, float]]


@dataclass(frozen=True)
class Task:
    """Questions in order. ``score`` gives the metrics of one answer to one of them, shares in
    [0, 1] (a difference may be negative); decoding ends at any of ``stop`` or after
    ``max_new_tokens``.

    A multiple-choice task has ``weigh``: nothing is decoded, and the metrics come from the
    log-likelihoods of a question's options, each after a space.
    """

    name: str
    questions: tuple[Question, ...]
    score: Score
    stop: tuple[str, ...]
    max_new_tokens: int
    weigh: Weigh | None = None


@dataclass(frozen=True)
class Source:
    """Where questions come from and how many: the first ``limit`` (None: all, or the task's
    default) of the official files in ``data`` (None: from the hub). ``history`` says whether the
    earlier turns of a conversation hold the gold answers or the model's own."""

    limit: int | None = None
    data: Path | None = None
    history: History = "gold"
