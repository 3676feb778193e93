"""From logits to the next token: greedy, or drawn from a filtered distribution.

Order and meaning of the steps are those of transformers: repetition penalty (CTRL, Keskar et al.
2019, section 4.1, over prompt and answer), temperature, top-k (Fan et al. 2018), top-p (Holtzman
et al. 2020), min-p (Nguyen et al. 2024).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite

import numpy as np
import torch
from torch import Tensor

from dynexit.errors import UserError
from dynexit.inference.settings import GenerationSettings

_OFF = float("-inf")
_NUCLEUS = 256  # candidates looked at first for top-p; a whole sort costs a hundred times more


class Sampler:
    """Chooses the next token of each of ``rows`` texts over a vocabulary of ``vocab``.

    Every row has a random generator of its own, so what it draws does not depend on its
    neighbours. Row r of a sampler draws from the seed of the settings and r, or from ``seeds[r]``
    alone; None draws anew each time. ``logits`` below are [B, vocab], and ``rows`` says which of
    the sampler's rows they belong to (None: all, in order).
    """

    def __init__(
        self,
        settings: GenerationSettings,
        rows: int,
        vocab: int,
        seeds: Sequence[int | None] | None = None,
    ) -> None:
        self.settings = settings
        own = [None if settings.seed is None else (settings.seed, r) for r in range(rows)]
        if seeds is not None:
            own = [None if seed is None else (seed, 0) for seed in seeds]
        self._generators = [np.random.default_rng(seed) for seed in own]
        # how often each token was seen, so that a rejected draft can be forgotten again
        self._seen = torch.zeros(rows, vocab, dtype=torch.int32) if self._penalises else None

    @property
    def _penalises(self) -> bool:
        return self.settings.repetition_penalty != 1.0

    def see(self, row: int, ids: Sequence[int]) -> None:
        """Tokens that now stand in a row's text (its prompt, or drafts to come)."""
        self._count(row, ids, 1)

    def forget(self, row: int, ids: Sequence[int]) -> None:
        """Tokens seen before that stand there no more (rejected drafts)."""
        self._count(row, ids, -1)

    def sample(self, logits: Tensor, rows: Sequence[int] | None = None) -> list[int]:
        """The next token of each row; it counts as seen from now on.

        Raises ``UserError`` where the largest logit of a row is not finite.
        """
        which = self._rows(rows)
        chosen = self._choose(logits, which, lambda: self.uniform(which))
        for row, token in zip(which, chosen, strict=True):
            self.see(row, [token])
        return chosen

    def _choose(
        self, logits: Tensor, rows: Sequence[int], uniform: Callable[[], Tensor]
    ) -> list[int]:
        """The token of each row, drawn by ``uniform`` numbers, which are asked for only if the
        logits are finite."""
        if self.settings.greedy:
            # of bf16 in a quarter of the time of argmax, and with the same choice among equals
            top, best = self._penalised(logits, rows).max(-1)
            check_finite(top)
            chosen: list[int] = best.tolist()
            return chosen
        probs = self.distribution(logits, rows)
        drawn: list[int] = draw(probs, uniform()).tolist()
        return drawn

    def distribution(self, logits: Tensor, rows: Sequence[int] | None = None) -> Tensor:
        """Probabilities [B, vocab] in fp32 that ``sample`` draws from; all on one if greedy."""
        scores = self._penalised(logits, self._rows(rows)).float()
        top, best = scores.max(-1, keepdim=True)
        check_finite(top)
        if self.settings.greedy:
            return torch.zeros_like(scores).scatter_(-1, best, 1.0)
        # a difference to the largest cannot overflow, however low the temperature
        return filtered((scores - top) / self.settings.temperature, self.settings).softmax(-1)

    def uniform(self, rows: Sequence[int] | None = None) -> Tensor:
        """One number in [0, 1) from the generator of each row, [B] in fp64 on the CPU."""
        return torch.tensor(
            [self._generators[row].random() for row in self._rows(rows)], dtype=torch.float64
        )

    @torch.inference_mode()
    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows only, in this order."""
        self._generators = [self._generators[row] for row in rows]
        if self._seen is not None:
            self._seen = self._seen[list(rows)]

    def _rows(self, rows: Sequence[int] | None) -> Sequence[int]:
        return range(len(self._generators)) if rows is None else rows

    @torch.inference_mode()  # counts may be made inside inference mode and changed outside of it
    def _count(self, row: int, ids: Sequence[int], by: int) -> None:
        if self._seen is None:
            return
        for token in ids:
            self._seen[row, token] += by

    def _penalised(self, logits: Tensor, rows: Sequence[int]) -> Tensor:
        if self._seen is None:
            return logits
        if self._seen.device != logits.device:
            self._seen = self._seen.to(logits.device)
        seen = self._seen[list(rows)] > 0
        scores, penalty = logits.float(), self.settings.repetition_penalty
        return torch.where(
            seen, torch.where(scores < 0, scores * penalty, scores / penalty), scores
        )


def sample_each(logits: Tensor, choosers: Sequence[tuple[Sampler, int]]) -> list[int | UserError]:
    """The next token of each row of ``logits`` [B, vocab], as ``sample`` of its own sampler and row
    gives it, or why there is none. Rows of samplers with the same settings are done together."""
    alike: dict[object, list[int]] = {}
    for at, (sampler, _) in enumerate(choosers):
        s = sampler.settings
        key = sampler if sampler._penalises else (s.temperature, s.top_k, s.top_p, s.min_p)
        alike.setdefault(key, []).append(at)
    made: dict[int, int | UserError] = {}
    for group in alike.values():
        whole = len(group) == len(choosers)
        made |= _sample_alike(logits if whole else logits[group], group, choosers)
    return [made[at] for at in range(len(choosers))]


def _sample_alike(
    logits: Tensor, group: Sequence[int], choosers: Sequence[tuple[Sampler, int]]
) -> dict[int, int | UserError]:
    """Tokens of rows that one sampler could sample, by their numbers among ``choosers``."""
    theirs = [choosers[at] for at in group]
    (first, _), rows = theirs[0], [row for _, row in theirs]

    def uniform() -> Tensor:
        return torch.cat([sampler.uniform([row]) for sampler, row in theirs])

    try:
        chosen = first._choose(logits, rows, uniform)
    except UserError as error:  # of one of them
        if len(group) == 1:
            return {group[0]: error}
        parts = [_sample_alike(logits[i : i + 1], [at], choosers) for i, at in enumerate(group)]
        return {at: token for part in parts for at, token in part.items()}
    for (sampler, row), token in zip(theirs, chosen, strict=True):
        sampler.see(row, [token])
    return dict(zip(group, chosen, strict=True))


def filtered(scores: Tensor, settings: GenerationSettings) -> Tensor:
    """Scores [B, vocab] with -inf for what top-k, top-p and min-p take out, in that order."""
    if 0 < settings.top_k < scores.shape[-1]:
        least = scores.topk(settings.top_k).values[:, -1:]
        scores = scores.masked_fill(scores < least, _OFF)
    if settings.top_p < 1.0:
        scores = scores.masked_fill(~_nucleus(scores.softmax(-1), settings.top_p), _OFF)
    if settings.min_p > 0.0:
        least = scores.amax(-1, keepdim=True) + float(np.log(settings.min_p))
        scores = scores.masked_fill(scores < least, _OFF)
    return scores


def _nucleus(probs: Tensor, mass: float) -> Tensor:
    """True for the fewest most probable tokens that hold ``mass`` together, one at least."""
    vocab, count = probs.shape[-1], _NUCLEUS
    while True:
        ordered, ids = probs.topk(min(count, vocab))
        before = ordered.cumsum(-1, dtype=torch.float64) - ordered
        if count >= vocab or bool((before[:, -1] >= mass).all()):
            break
        count *= 16
    inside = before < mass
    inside[:, 0] = True
    return torch.zeros_like(probs, dtype=torch.bool).scatter_(-1, ids, inside)


def draw(probs: Tensor, uniforms: Tensor) -> Tensor:
    """Token ids [B] from ``probs`` [B, vocab] by inversion, one uniform number in [0, 1) each.

    ``probs`` need not sum to 1, but not to 0. A token of probability 0 is never drawn. Runs on the
    CPU, where sums are in order and the same on every machine.
    """
    cumulative = probs.double().cpu().cumsum(-1)
    total = cumulative[:, -1]
    # strictly below the total, also where the product rounds up to it
    at = torch.minimum(uniforms * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, at[:, None], right=True).squeeze(-1)


def check_finite(largest: Tensor) -> None:
    """Raise ``UserError`` unless the largest logits of all rows, [B] or [B, 1], are finite."""
    values = largest.flatten().tolist()
    if all(map(isfinite, values)):
        return
    row = next(row for row, value in enumerate(values) if not isfinite(value))
    raise UserError(
        f"the logits of row {row} are not finite (largest: {values[row]}); "
        "load the model in float32 or check its weights"
    )
