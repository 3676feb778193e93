"""Sampled lossless decoding has the full model's distribution, at every setting."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from tests.inference.speculative.cases import model_of, random_policy, speculate
from tests.inference.test_decoder import VOCAB as WORDS
from torch import Tensor

from dynexit.inference.decoder import Decoder
from dynexit.inference.sampling import Sampler
from dynexit.inference.settings import GenerationSettings
from dynexit.inference.speculative.acceptance import Draft, accept, propose
from dynexit.inference.speculative.settings import Lossless

VOCAB, SMALLEST_P = 8, 1e-4
Counts = NDArray[np.int64]
Drawn = Callable[[Sampler, list[int], int], list[int]]
SETTINGS = {
    "temperature": GenerationSettings(temperature=1.0, seed=1),
    "cold": GenerationSettings(temperature=0.5, seed=2),
    "top-k": GenerationSettings(temperature=1.0, top_k=3, seed=3),
    "top-p": GenerationSettings(temperature=1.2, top_p=0.7, seed=4),
    "min-p": GenerationSettings(temperature=1.0, min_p=0.2, seed=5),
    "penalty": GenerationSettings(temperature=1.0, repetition_penalty=1.8, seed=6),
    "all": GenerationSettings(
        temperature=1.3, top_k=6, top_p=0.9, min_p=0.02, repetition_penalty=1.3, seed=7
    ),
}


def logits_of(text: Sequence[int], seed: int) -> Tensor:
    """Logits [1, VOCAB] of a small language: what comes next depends on the last two tokens."""
    generator = torch.Generator().manual_seed(seed + 100 * text[-1] + text[-2])
    return torch.randn(1, VOCAB, generator=generator) * 1.5


def plain_text(sampler: Sampler, prompt: list[int], tokens: int) -> list[int]:
    text = list(prompt)
    for _ in range(tokens):
        text += sampler.sample(logits_of(text, seed=0))
    return text[len(prompt) :]


def drafted_text(sampler: Sampler, prompt: list[int], tokens: int) -> list[int]:
    """The same by cycles of two drafts from another small language."""
    text = list(prompt)
    while len(text) < len(prompt) + tokens:
        drafts: list[Draft] = []
        for _ in range(2):
            seen = text + [draft.token for draft in drafts]
            mixed = 0.7 * logits_of(seen, seed=0) + 0.6 * logits_of(seen, seed=9)
            token, proposal = propose(sampler, 0, mixed)
            drafts.append(Draft(token, 1, None, proposal))
        ahead = text + [draft.token for draft in drafts]
        full = [logits_of(ahead[: len(text) + i], seed=0) for i in range(3)]
        text += accept(sampler, 0, drafts, torch.cat(full))
    return text[len(prompt) : len(prompt) + tokens]


def counts(draw_text: Drawn, settings: GenerationSettings, draws: int) -> Counts:
    """How often each pair of first tokens came, [VOCAB * VOCAB]."""
    seen = np.zeros(VOCAB * VOCAB, dtype=np.int64)
    sampler = Sampler(settings, 1, VOCAB)
    for _ in range(draws):
        prompt = [3, 5]
        sampler.see(0, prompt)
        text = draw_text(sampler, prompt, 2)
        extra = sampler_history(sampler)
        seen[text[0] * VOCAB + text[1]] += 1
        sampler.forget(0, extra)
    return seen


def sampler_history(sampler: Sampler) -> list[int]:
    """All that a sampler counts as seen, so that it can be forgotten."""
    if sampler._seen is None:
        return []
    return [token for token, n in enumerate(sampler._seen[0].tolist()) for _ in range(int(n))]


def p_value(a: Counts, b: Counts) -> float:
    """Chi-square of two samples; cells that are rare in both are joined."""
    rare = a + b < 10
    table = np.stack([np.append(x[~rare], x[rare].sum()) for x in (a, b)])
    return float(stats.chi2_contingency(table[:, table.sum(0) > 0]).pvalue)


@pytest.mark.parametrize("name", SETTINGS)
def test_distribution(name: str) -> None:
    settings = SETTINGS[name]
    full = counts(plain_text, settings, 500)
    drafted = counts(drafted_text, settings, 500)
    assert p_value(full, drafted) > SMALLEST_P


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_distribution_of_many(name: str) -> None:
    """10^5 draws each: a bias of a percent in one cell would show."""
    settings, draws = SETTINGS[name], 100_000
    full, drafted = counts(plain_text, settings, draws), counts(drafted_text, settings, draws)
    assert p_value(full, drafted) > SMALLEST_P


def test_the_test_sees_a_bias() -> None:
    """Drafts that are taken as they come have another distribution, and it shows."""
    settings = SETTINGS["temperature"]

    def taken(sampler: Sampler, prompt: list[int], tokens: int) -> list[int]:
        text = list(prompt)
        for _ in range(tokens):
            mixed = 0.7 * logits_of(text, seed=0) + 0.6 * logits_of(text, seed=9)
            text.append(propose(sampler, 0, mixed)[0])
        return text[len(prompt) :]

    assert p_value(counts(plain_text, settings, 500), counts(taken, settings, 500)) < SMALLEST_P


@pytest.mark.parametrize("kind", ["attention", "mamba2"])
def test_equal_seeds_give_equal_answers(kind: str) -> None:
    model, settings = model_of(kind), GenerationSettings(temperature=0.8, seed=11)
    runs = [
        speculate(model, [[1, 2], [3, 4]], [12, 9], random_policy(5), settings, Lossless())[0]
        for _ in range(2)
    ]
    assert runs[0] == runs[1]


@pytest.mark.parametrize("kind", ["attention", "mamba2", "mamba", "hybrid"])
def test_whole_models_agree_in_distribution(kind: str) -> None:
    """The third tokens of many answers by a model, and of as many by its drafts."""
    model, rows = model_of(kind), 200
    seen = np.zeros((2, WORDS), dtype=np.int64)
    for seed in (1, 2):
        prompts = [[7, 7]] * rows
        settings = GenerationSettings(temperature=0.3, top_k=6, seed=seed)
        decoder, sampler = Decoder(model, rows, 8), Sampler(settings, rows, WORDS)
        decoder.prefill([prompt[:-1] for prompt in prompts])
        last = [7] * rows
        for _ in range(3):
            last = sampler.sample(decoder.step(last).logits)
        other = GenerationSettings(temperature=0.3, top_k=6, seed=seed + 10)
        how = Lossless(adapt=False)
        drafted, _ = speculate(model, prompts, [3] * rows, random_policy(seed), other, how)
        seen[0] += np.bincount(last, minlength=WORDS)
        seen[1] += np.bincount([text[2] for text in drafted], minlength=WORDS)
    assert p_value(seen[0], seen[1]) > SMALLEST_P
