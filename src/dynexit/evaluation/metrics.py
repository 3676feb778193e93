"""Answers against gold answers, as SQuAD scores them (Rajpurkar et al. 2016, section 6.1).

TriviaQA and CoQA score the same way: case, punctuation, articles and spacing don't count, and of
several gold answers the best match counts.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """Lower case, without punctuation, articles and spare spaces, in SQuAD's order."""
    bare = text.lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def exact_match(answer: str, golds: Sequence[str]) -> float:
    """1 if the answer equals any gold answer after normalisation, else 0."""
    said = normalise(answer)
    return float(any(said == normalise(gold) for gold in golds))


def token_f1(answer: str, golds: Sequence[str]) -> float:
    """The best F1 over words, in [0, 1], of the answer with any gold answer."""
    return max((_f1(normalise(answer).split(), normalise(g).split()) for g in golds), default=0.0)


def _f1(said: list[str], gold: list[str]) -> float:
    if not said or not gold:  # as the official script of SQuAD 2.0
        return float(said == gold)
    common = sum((Counter(said) & Counter(gold)).values())
    return 2 * common / (len(said) + len(gold))
