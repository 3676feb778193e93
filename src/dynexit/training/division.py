"""How the texts of a collection are divided among shards, and what of them a disk budget keeps.

Only numbers are held: which text, how many tokens. So a billion tokens are divided in the memory of
an index, and workers who read the same file agree on every shard.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from dynexit.errors import UserError
from dynexit.files import atomic_path
from dynexit.training.memory import Load

TEXTS, TOKENS = "texts", "tokens"
SUBSAMPLING = (TEXTS, TOKENS)
_EVEN = 4  # shards come in fours, so that two or four workers have equal work

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Space:
    """``budget`` bytes on disk (None: no limit) at ``token_bytes`` each, and what is given up for
    it: whole ``texts``, or of every text all but some of the judged ``tokens``."""

    budget: int | None
    token_bytes: int
    subsample: str


@dataclass(frozen=True)
class Division:
    """``order`` [texts]: the numbers of the texts, shard by shard; ``prompts`` and ``answers``
    [texts] their tokens, an answer's being the most that it may have; ``free`` [texts] whether the
    model is to answer; ``quotas`` [texts] how many judged tokens are kept (-1: the whole text);
    ``bounds`` [shards + 1] where shards begin."""

    order: Numbers
    prompts: Numbers
    answers: Numbers
    free: Numbers
    quotas: Numbers
    bounds: Numbers

    @property
    def shards(self) -> int:
        return len(self.bounds) - 1

    @property
    def whole(self) -> bool:
        """Whether texts are kept whole."""
        return bool((self.quotas < 0).all())

    def part(self, shard: int) -> range:
        """Places in ``order`` of a shard's texts."""
        return range(int(self.bounds[shard]), int(self.bounds[shard + 1]))

    def needs(self) -> Numbers:
        """Tokens of every text with the longest answer it may get."""
        return self.prompts + self.answers

    def load(self, batch_tokens: int, states: int) -> Load:
        """The most that a shard asks of memory."""
        needs = self.needs()
        starts = self.bounds[:-1]
        rows = int(np.add.reduceat(self.free, starts).max())
        longest = int(needs.max())
        most = int(np.add.reduceat(needs, starts).max())
        batch = max(longest, min(batch_tokens, most))
        return Load(most, rows, longest if rows else 0, batch, longest, states)


def divide(
    sizes: Callable[[int], tuple[int, int, bool]],
    texts: int,
    seed: int,
    shard_tokens: int,
    space: Space,
) -> Division:
    """Divide ``texts`` texts, of which ``sizes(i)`` gives the tokens of prompt and answer and
    whether the model gives the answer, into shards of at most ``shard_tokens`` tokens (or a text)
    and nearly equal size."""
    order = list(range(texts))
    random.Random(f"order-{seed}").shuffle(order)
    found = np.array([sizes(i) for i in order], dtype=np.int64).reshape(texts, 3)
    prompts, answers, free = found[:, 0], found[:, 1], found[:, 2]
    kept = slice(_texts_within(prompts + answers, space))
    division = Division(
        np.array(order, dtype=np.int64)[kept],
        prompts[kept],
        answers[kept],
        free[kept],
        _quotas(answers[kept], space),
        _bounds((prompts + answers)[kept], shard_tokens),
    )
    _check_budget(division, space)
    return division


def save_division(path: Path, division: Division) -> None:
    """Write a division, whole or not at all."""
    with atomic_path(path) as temporary:
        save_file({name: np.ascontiguousarray(n) for name, n in vars(division).items()}, temporary)


def load_division(path: Path) -> Division:
    """The division that was written to ``path``; ``UserError`` where it is damaged."""
    try:
        return Division(**load_file(path))
    except Exception as error:
        raise UserError(f"{path} is damaged ({error}); remove it and run again") from None


def chosen_tokens(judged: int, quota: int, seed: str) -> torch.Tensor:
    """Which of a text's judged tokens are kept [at most quota], in order."""
    count = min(judged, quota)
    return torch.tensor(sorted(random.Random(seed).sample(range(judged), count)), dtype=torch.long)


def _texts_within(needs: Numbers, space: Space) -> int:
    """How many of the first texts there is space for."""
    if space.budget is None or space.subsample == TOKENS:
        return len(needs)
    return int((needs.cumsum() * space.token_bytes <= space.budget).sum())


def _quotas(judged: Numbers, space: Space) -> Numbers:
    """Tokens to keep of each text: the same share of all, the sum never above the budget."""
    if space.budget is None or space.subsample == TEXTS:
        return np.full(len(judged), -1, dtype=np.int64)
    share = min(1.0, space.budget / max(1, int(judged.sum()) * space.token_bytes))
    return np.diff(np.floor(judged.cumsum() * share), prepend=0.0).astype(np.int64)


def _bounds(needs: Numbers, shard_tokens: int) -> Numbers:
    if not len(needs):
        return np.zeros(1, dtype=np.int64)
    total, longest = int(needs.sum()), int(needs.max())
    count = -(-total // max(1, shard_tokens - longest)) if total > shard_tokens else 1
    if count > 1:
        count += -count % _EVEN
    shard = (needs.cumsum() - needs) * count // total  # by where a text begins
    return np.concatenate([[0], np.flatnonzero(np.diff(shard)) + 1, [len(needs)]])


def _check_budget(division: Division, space: Space) -> None:
    """Refuse a budget that not even one shard fits in."""
    if space.budget is None:
        return
    enough = len(division.order) >= 2 and (division.whole or int(division.quotas.sum()) >= 2)
    if not enough:
        raise UserError(
            f"--disk-budget {space.budget / 1e6:g} MB is smaller than one shard: a token takes "
            f"{space.token_bytes / 1e3:.1f} kB, and two texts at least are needed; give more, "
            "or fewer exits with --layers"
        )
