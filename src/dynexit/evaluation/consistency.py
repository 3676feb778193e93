"""How far answers with early exits are those of the full model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Consistency:
    """Shares in [0, 1] over a set of answers.

    ``answers``: answers equal to the full model's, token for token. ``tokens``: positions that hold
    the same token, over the longer answer of each pair. ``agreed``: tokens before the first
    divergence, over the full model's, which is what a text still shares with the full model's once
    decoding has gone its own way.
    """

    answers: float
    tokens: float
    agreed: float


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


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0
