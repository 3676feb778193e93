"""One document of the corpus and its two renderings: as a prompt and as training segments.

Everything that turns an item into text lives here, so that training, evaluation and the
examples in the documentation can't disagree about a space or a newline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

STORIES = "stories"
TRIVIA = "trivia"
MISCONCEPTIONS = "misconceptions"
TASKS = (TRIVIA, STORIES, MISCONCEPTIONS)


@dataclass(frozen=True)
class Turn:
    """A question and its gold answer.

    `aliases` are further right answers, `false_answers` the popular wrong ones, and `kind`
    names what is asked, for scores by kind of question.
    """

    question: str
    answer: str
    aliases: tuple[str, ...] = ()
    false_answers: tuple[str, ...] = ()
    kind: str = ""


@dataclass(frozen=True)
class Item:
    """A document: a conversation over `context`, or one closed-book question without any."""

    task: str
    kind: str
    context: str
    turns: tuple[Turn, ...]
    level: int


def _question(item: Item, turn: Turn) -> str:
    if item.task == STORIES:
        return f"Q: {turn.question}\nA:"
    return f"Question: {turn.question}\nAnswer:"


def _opening(item: Item) -> str:
    return f"Story: {item.context}\n" if item.context else ""


def prompt(item: Item, turn_index: int, answers: Sequence[str] | None = None) -> str:
    """The text a model is given for one turn, up to and including the final colon.

    Earlier turns are filled with the gold answers, or with `answers` (a model's own, say).
    """
    given = [turn.answer for turn in item.turns] if answers is None else answers
    past = zip(item.turns[:turn_index], given[:turn_index], strict=True)
    history = "".join(f"{_question(item, turn)} {answer}\n" for turn, answer in past)
    return _opening(item) + history + _question(item, item.turns[turn_index])


def segments(item: Item) -> list[tuple[str, bool]]:
    """The whole document as alternating (text, is_target) pieces; targets end in a newline."""
    pieces: list[tuple[str, bool]] = []
    before = _opening(item)
    for turn in item.turns:
        pieces.append((before + _question(item, turn), False))
        pieces.append((f" {turn.answer}\n", True))
        before = ""
    return pieces


def document(item: Item) -> str:
    """The whole document as one string."""
    return "".join(text for text, _ in segments(item))
