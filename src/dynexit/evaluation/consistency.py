"""How far answers with early exits are those of the full model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median

from dynexit.evaluation.losses import rouge_l
from dynexit.inference.generation import Generation


@dataclass(frozen=True)
class Divergence:
    """Where answers part from the full model's, counting tokens from 0.

    ``answers`` of them do; ``median`` is the middle of their first positions with another token
    (None where there are none); ``histogram`` has (start, end, count) for positions from start up
    to, not including, end, which double: 0, 1, 2-3, 4-7 and so on.
    """

    answers: int
    median: float | None
    histogram: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Consistency:
    """Shares in [0, 1] over a set of answers; None or empty is what was not measured.

    ``answers``: answers equal to the full model's, token for token. ``tokens``: positions that hold
    the same token, over the longer answer of each pair. ``agreed``: tokens before the first
    divergence, over the full model's, which is what a text still shares with the full model's once
    decoding has gone its own way. ``rouge_l``: mean ROUGE-L of the text against the full model's.
    ``teacher_forced``: tokens of the full model's answers that exits would give too after the full
    model's own tokens. ``by_layer``: of the tokens that left after each layer, up to the first that
    differs in an answer and that one included, the share equal to the full model's.
    """

    answers: float
    tokens: float
    agreed: float
    rouge_l: float | None = None
    teacher_forced: float | None = None
    divergence: Divergence | None = None
    by_layer: Mapping[int, float] = field(default_factory=dict)


def first_divergence(full: Sequence[int], early: Sequence[int]) -> int | None:
    """Position of the first token that differs (or is missing in one), None if all are equal."""
    for position, (a, b) in enumerate(zip(full, early, strict=False)):
        if a != b:
            return position
    return None if len(full) == len(early) else min(len(full), len(early))


def consistency(full: Sequence[Sequence[int]], early: Sequence[Sequence[int]]) -> Consistency:
    """Compare the token ids of each answer with the full model's for the same prompt."""
    pairs = list(zip(full, early, strict=True))
    if not pairs:
        return Consistency(1.0, 1.0, 1.0)
    places = [first_divergence(a, b) for a, b in pairs]
    same = sum(sum(x == y for x, y in zip(a, b, strict=False)) for a, b in pairs)
    longest = sum(max(len(a), len(b)) for a, b in pairs)
    agreed = sum(len(a) if at is None else at for (a, _), at in zip(pairs, places, strict=True))
    return Consistency(
        answers=places.count(None) / len(pairs),
        tokens=_share(same, longest),
        agreed=_share(agreed, sum(len(a) for a, _ in pairs)),
    )


def compare(
    full: Sequence[Generation], early: Sequence[Generation], agreeing: Sequence[int] | None = None
) -> Consistency:
    """All of it, for answers with their texts and exit layers.

    ``agreeing`` is the number of tokens of each of the full model's answers that exits would give
    too (see ``forced``).
    """
    found = consistency([a.ids for a in full], [b.ids for b in early])
    pairs = list(zip(full, early, strict=True))
    tokens = sum(len(a.tokens) for a in full)
    return Consistency(
        found.answers,
        found.tokens,
        found.agreed,
        rouge_l=fmean(rouge_l(a.text, b.text) for a, b in pairs) if pairs else 1.0,
        teacher_forced=None if agreeing is None else _share(sum(agreeing), tokens),
        divergence=divergence([a.ids for a in full], [b.ids for b in early]),
        by_layer=agreement_by_layer(full, early),
    )


def divergence(full: Sequence[Sequence[int]], early: Sequence[Sequence[int]]) -> Divergence:
    """Statistics of the first position at which answers differ."""
    places = [first_divergence(a, b) for a, b in zip(full, early, strict=True)]
    parted = [at for at in places if at is not None]
    bins = Counter(at.bit_length() for at in parted)
    last = max(bins, default=-1)
    return Divergence(
        answers=len(parted),
        median=float(median(parted)) if parted else None,
        histogram=tuple((1 << b >> 1, 1 << b, bins[b]) for b in range(last + 1)),
    )


def agreement_by_layer(full: Sequence[Generation], early: Sequence[Generation]) -> dict[int, float]:
    """For each exit layer in use, the share of tokens that left there and are the full model's.

    Beyond the first token that differs the texts are different ones, and nothing is counted.
    """
    total: Counter[int] = Counter()
    same: Counter[int] = Counter()
    for a, b in zip(full, early, strict=True):
        for left, right in zip(a.tokens, b.tokens, strict=False):
            total[right.exit_layer] += 1
            if left.id != right.id:
                break
            same[right.exit_layer] += 1
    return {layer: same[layer] / count for layer, count in sorted(total.items())}


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0
