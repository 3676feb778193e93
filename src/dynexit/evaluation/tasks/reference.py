"""The shipped pair's own tasks: closed-book trivia, conversations about stories, misconceptions.

They are the small kin of TriviaQA, CoQA and TruthfulQA, on items kept apart from training.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

from dynexit.evaluation.metrics import exact_match, token_f1
from dynexit.evaluation.tasks.task import Question, Task
from dynexit.reference.corpus.item import TASKS, Item, prompt
from dynexit.reference.corpus.mixture import held_out_items

DEFAULT_LIMIT = 100
MAX_NEW_TOKENS = 32


def reference_tasks(limit: int | None = None, seed: int = 0) -> list[Task]:
    """Trivia, stories and misconceptions with at most ``limit`` questions each.

    ``seed`` orders the items; seed 1 is what the recipe looks at, 2 the demo's validation.
    """
    count = DEFAULT_LIMIT if limit is None else limit
    return [
        Task(
            name, _questions(name, count, seed), score, stop=("\n",), max_new_tokens=MAX_NEW_TOKENS
        )
        for name in TASKS
    ]


def score(answer: str, question: Question) -> Mapping[str, float]:
    """Exact match and F1 against the gold answer and its aliases."""
    return {
        "em": exact_match(answer, question.answers),
        "f1": token_f1(answer, question.answers),
    }


def _questions(name: str, count: int, seed: int) -> tuple[Question, ...]:
    # an item has at least one turn, so `count` items are enough
    items = held_out_items(name, count, seed)
    turns = (question for item in items for question in _turns(item))
    return tuple(islice(turns, count))


def _turns(item: Item) -> list[Question]:
    return [
        Question(
            prompt(item, index),
            (turn.answer, *turn.aliases),
            turn.false_answers,
            item.level,
            turn.kind,
        )
        for index, turn in enumerate(item.turns)
    ]
