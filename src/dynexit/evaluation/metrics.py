"""Answers against gold answers, as SQuAD scores them (Rajpurkar et al. 2016, section 6.1).

CoQA's official evaluation (coqa-evaluate-v1.0.py) normalises and compares in the same way: case,
punctuation, articles and spacing don't count, and of several gold answers the best match counts.
TriviaQA's differs a little; see ``metrics_triviaqa``.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import fmean

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """Lower case, without punctuation, articles and spare spaces, in SQuAD's order."""
    return without_articles(text.lower().translate(_PUNCTUATION))


def without_articles(text: str) -> str:
    """Text without the words a, an and the, and with single spaces."""
    return " ".join(_ARTICLES.sub(" ", text).split())


def exact_match(answer: str, golds: Sequence[str]) -> float:
    """1 if the answer equals any gold answer after normalisation, else 0."""
    said = normalise(answer)
    return float(any(said == normalise(gold) for gold in golds))


def token_f1(answer: str, golds: Sequence[str]) -> float:
    """The best F1 over words, in [0, 1], of the answer with any gold answer."""
    return max((_f1(normalise(answer).split(), normalise(g).split()) for g in golds), default=0.0)


def word_f1(said: Sequence[str], gold: Sequence[str]) -> float:
    """F1 of two bags of words, in [0, 1]; 0 where they share none."""
    common = sum((Counter(said) & Counter(gold)).values())
    return 2 * common / (len(said) + len(gold)) if common else 0.0


def leave_one_out(
    metric: Callable[[str, Sequence[str]], float], answer: str, golds: Sequence[str]
) -> float:
    """CoQA's mean of a metric over all choices of all but one gold answer.

    That is how each human answer is scored, against the others', so that models and people compare
    (Reddy et al. 2019, section 5.1). A single gold answer is not left out.
    """
    if len(golds) < 2:
        return metric(answer, golds)
    return fmean(metric(answer, [*golds[:i], *golds[i + 1 :]]) for i in range(len(golds)))


def _f1(said: list[str], gold: list[str]) -> float:
    if not said or not gold:  # as the official script of SQuAD 2.0
        return float(said == gold)
    return word_f1(said, gold)
