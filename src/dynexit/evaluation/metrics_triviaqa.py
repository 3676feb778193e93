"""Exact match and F1 as TriviaQA's official evaluation has them (triviaqa_evaluation.py).

Unlike SQuAD's, its normalisation puts a space in the place of punctuation (so "well-known" is two
words), counts four kinds of typographic quotes as punctuation and takes the underscore as a space.
"""

from __future__ import annotations

import string
from collections.abc import Sequence

from dynexit.evaluation.metrics import without_articles, word_f1

_QUOTES = "\u2018\u2019\u00b4`"
_SPACED = str.maketrans(dict.fromkeys(string.punctuation + _QUOTES, " "))


def normalise(text: str) -> str:
    """Lower case, spaces for punctuation, without articles and spare spaces."""
    return without_articles(text.lower().translate(_SPACED))


def exact_match(answer: str, golds: Sequence[str]) -> float:
    """1 if the answer equals any alias after normalisation, else 0."""
    said = normalise(answer)
    return float(any(said == normalise(gold) for gold in golds))


def token_f1(answer: str, golds: Sequence[str]) -> float:
    """The best F1 over words, in [0, 1], of the answer with any alias; 0 where nothing is shared,
    also for two empty texts."""
    said = normalise(answer).split()
    return max((word_f1(said, normalise(gold).split()) for gold in golds), default=0.0)
