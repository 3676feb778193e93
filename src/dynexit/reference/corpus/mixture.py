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

RETELLINGS = "retellings"
# Shares of the tokens by stage of training. Facts are learnt first and soon. Finding answers in a
# story takes longer, and having to tell whole stories again teaches how to find things in them.
MIXES: Mapping[str, Mapping[str, float]] = {
    "facts": {TRIVIA: 0.40, STORIES: 0.45, MISCONCEPTIONS: 0.15},
    "retelling": {TRIVIA: 0.15, STORIES: 0.50, MISCONCEPTIONS: 0.15, RETELLINGS: 0.20},
    "stories": {TRIVIA: 0.12, STORIES: 0.70, MISCONCEPTIONS: 0.18},
}
# Mean tokens of one item, from which and the shares the number of items follows.
MEAN_TOKENS: Mapping[str, float] = {
    TRIVIA: 17.0,
    STORIES: 150.0,
    MISCONCEPTIONS: 27.0,
    RETELLINGS: 140.0,
}


def training_items(seed: int, mix: str = "facts") -> Iterator[Item]:
    """Endless training items, mixed as one of ``MIXES``."""
    rng = random.Random(f"training-{seed}")
    makers = {
        TRIVIA: training_trivia,
        STORIES: training_story,
        MISCONCEPTIONS: training_misconception,
        RETELLINGS: training_retelling,
    }
    weights = [MIXES[mix].get(task, 0.0) / MEAN_TOKENS[task] for task in makers]
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
