"""The stream the reference models are trained on, and the tests kept apart from it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping

from dynexit.reference.corpus.item import MISCONCEPTIONS, STORIES, TRIVIA, Item
from dynexit.reference.corpus.misconceptions import all_test_misconceptions, training_misconception
from dynexit.reference.corpus.stories import (
    LEVELS,
    story_item,
    training_retelling,
    training_story,
)
from dynexit.reference.corpus.trivia import all_test_trivia, training_trivia

# Share of the tokens, and mean tokens of one item, from which the share of the items follows.
TOKEN_SHARES: Mapping[str, float] = {TRIVIA: 0.40, STORIES: 0.45, MISCONCEPTIONS: 0.15}
# Facts are learnt first and soon; finding answers in a story takes longer, and having to tell whole
# stories again teaches how to find things in them.
RETELLINGS = "retellings"
STORY_SHARES: Mapping[str, float] = {
    TRIVIA: 0.15,
    STORIES: 0.50,
    MISCONCEPTIONS: 0.15,
    RETELLINGS: 0.20,
}
MEAN_TOKENS: Mapping[str, float] = {
    TRIVIA: 17.0,
    STORIES: 150.0,
    MISCONCEPTIONS: 27.0,
    RETELLINGS: 140.0,
}


def training_items(seed: int, shares: Mapping[str, float] = TOKEN_SHARES) -> Iterator[Item]:
    """Endless training items, mixed by the ``shares`` of their tasks in the tokens."""
    rng = random.Random(f"training-{seed}")
    makers = {
        TRIVIA: training_trivia,
        STORIES: training_story,
        MISCONCEPTIONS: training_misconception,
        RETELLINGS: training_retelling,
    }
    weights = [shares.get(task, 0.0) / MEAN_TOKENS[task] for task in makers]
    while True:
        task = rng.choices(list(makers), weights)[0]
        yield makers[task](rng)


def held_out_items(task: str, n: int, seed: int = 0) -> list[Item]:
    """The first `n` test items of a task in the order of a seed; fewer if there are no more.

    Trivia are taught facts in wordings never taught, misconceptions the same with false answers
    never met, and stories new ones with pairs of names and things that never met in training.
    """
    rng = random.Random(f"test-{task}-{seed}")
    if task == STORIES:
        return [story_item(rng, LEVELS[i % len(LEVELS)], test=True) for i in range(n)]
    if task == TRIVIA:
        pool = all_test_trivia()
    elif task == MISCONCEPTIONS:
        pool = all_test_misconceptions()
    else:
        raise ValueError(f"unknown task {task!r}")
    rng.shuffle(pool)
    return pool[:n]
