"""Sampling: equal to transformers' processors, right in distribution, independent by row."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from dynexit.errors import UserError
from dynexit.inference.sampling import Sampler, draw, sample_each
from dynexit.inference.settings import GenerationSettings


def logits(rows: int, vocab: int, seed: int = 0, scale: float = 3.0) -> Tensor:
    return scale * torch.randn(rows, vocab, generator=torch.Generator().manual_seed(seed))


def theirs(scores: Tensor, history: list[list[int]], settings: GenerationSettings) -> Tensor:
    steps = LogitsProcessorList()
    if settings.repetition_penalty != 1.0:
        steps.append(RepetitionPenaltyLogitsProcessor(settings.repetition_penalty))
    steps.append(TemperatureLogitsWarper(settings.temperature))
    if settings.top_k:
        steps.append(TopKLogitsWarper(settings.top_k))
    if settings.top_p < 1.0:
        steps.append(TopPLogitsWarper(settings.top_p))
    if settings.min_p:
        steps.append(MinPLogitsWarper(settings.min_p))
    return torch.as_tensor(steps(torch.tensor(history), scores.clone())).softmax(-1)


def chi_square_p(counts: Tensor, probs: Tensor) -> float:
    """Pearson's test that ``counts`` come from ``probs`` (all above 0)."""
    expected = counts.sum() * probs.double() / probs.double().sum()
    statistic = ((counts - expected) ** 2 / expected).sum()
    freedom = torch.tensor((len(counts) - 1) / 2, dtype=torch.float64)
    return float(torch.special.gammaincc(freedom, statistic / 2))


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("penalty", [0.7, 1.0, 1.3])
@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"top_k": 1},
        {"top_k": 7},
        {"top_k": 9999},
        {"top_p": 0.6},
        {"top_p": 0.0},
        {"min_p": 0.05},
        {"min_p": 1.0},
        {"top_k": 50, "top_p": 0.9, "min_p": 0.02},
    ],
)
def test_distribution_equals_transformers(
    temperature: float, penalty: float, filters: dict[str, float]
) -> None:
    settings = GenerationSettings(
        temperature=temperature,
        repetition_penalty=penalty,
        **filters,  # type: ignore[arg-type]
    )
    scores, history = logits(4, 700), [[1, 2, 2, 699], [5, 5, 5, 5], [0, 9, 8, 7], [3, 4, 5, 6]]
    sampler = Sampler(settings, 4, 700)
    for row, ids in enumerate(history):
        sampler.see(row, ids)
    ours, expected = sampler.distribution(scores), theirs(scores, history, settings)
    assert torch.equal(ours > 0, expected > 0)
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-5)


def test_top_p_looks_further_when_the_mass_is_spread() -> None:
    settings = GenerationSettings(temperature=1.0, top_p=0.95)
    scores = logits(2, 9000, scale=0.1)
    ours = Sampler(settings, 2, 9000).distribution(scores)
    expected = theirs(scores, [[0], [0]], settings)
    assert int((ours > 0).sum()) > 16000
    assert torch.equal(ours > 0, expected > 0)


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    temperature=st.floats(1e-5, 100.0),
    top_k=st.integers(0, 40),
    top_p=st.floats(0.0, 1.0),
    min_p=st.floats(0.0, 1.0),
    penalty=st.floats(0.2, 5.0),
)
def test_a_distribution_is_one_and_holds_the_best(
    seed: int, temperature: float, top_k: int, top_p: float, min_p: float, penalty: float
) -> None:
    settings = GenerationSettings(1, temperature, top_k, top_p, min_p, penalty, seed=seed)
    sampler = Sampler(settings, 3, 30)
    sampler.see(1, [4, 4, 29])
    scores = logits(3, 30, seed)
    probs = sampler.distribution(scores)
    torch.testing.assert_close(probs.sum(-1), torch.ones(3))
    assert bool((probs >= 0).all())
    assert probs.argmax(-1)[0] == scores.argmax(-1)[0]
    chosen = sampler.sample(scores)
    assert all(probs[row, token] > 0 for row, token in enumerate(chosen))
    if top_k:
        assert bool(((probs > 0).sum(-1) <= top_k).all())


@pytest.mark.parametrize("filters", [{}, {"top_k": 4}, {"top_p": 0.7}, {"min_p": 0.1}])
def test_draws_follow_the_distribution(filters: dict[str, float]) -> None:
    settings = GenerationSettings(temperature=0.8, **filters)  # type: ignore[arg-type]
    probs = Sampler(settings, 1, 8).distribution(logits(1, 8, scale=1.0))
    uniforms = torch.rand(100_000, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ids = draw(probs.expand(100_000, -1), uniforms)
    counts, possible = torch.bincount(ids, minlength=8), probs[0] > 0
    assert int(counts[~possible].sum()) == 0
    assert chi_square_p(counts[possible], probs[0][possible]) > 1e-3


def test_a_row_generator_gives_independent_draws() -> None:
    settings = GenerationSettings(temperature=1.0, seed=5)
    sampler = Sampler(settings, 2, 4)
    scores = logits(1, 4, scale=1.0).expand(2, -1)
    pairs = torch.tensor([sampler.sample(scores) for _ in range(3000)])
    probs = sampler.distribution(scores[:1])[0].double()
    joint = torch.bincount(pairs[:, 0] * 4 + pairs[:, 1], minlength=16)
    assert chi_square_p(joint, torch.outer(probs, probs).flatten()) > 1e-3


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=9).filter(lambda p: sum(p) > 0))
def test_zero_probability_is_never_drawn_even_at_the_ends(weights: list[float]) -> None:
    probs = torch.tensor([weights], dtype=torch.float64)
    for number in (0.0, 1.0 - 2.0**-53):
        token = int(draw(probs, torch.tensor([number], dtype=torch.float64)))
        assert probs[0, token] > 0


def test_a_rows_sample_does_not_depend_on_its_neighbours() -> None:
    settings = GenerationSettings(temperature=1.5, repetition_penalty=1.2, seed=11)
    steps = [logits(3, 50, seed) for seed in range(12)]
    together = Sampler(settings, 3, 50)
    all_rows = [together.sample(scores) for scores in steps]
    alone = Sampler(settings, 1, 50)
    assert [alone.sample(scores[:1])[0] for scores in steps] == [ids[0] for ids in all_rows]

    fewer = Sampler(settings, 3, 50)
    kept = [fewer.sample(scores) for scores in steps[:5]]
    fewer.keep([2, 1])
    kept += [fewer.sample(scores[[2, 1]]) for scores in steps[5:]]
    assert [ids[0] for ids in kept[5:]] == [ids[2] for ids in all_rows[5:]]
    assert [ids[1] for ids in kept[5:]] == [ids[1] for ids in all_rows[5:]]


def test_seeds_by_request() -> None:
    settings, scores = GenerationSettings(temperature=1.0, seed=1), logits(2, 1000, scale=0.1)
    batch = Sampler(settings, 2, 1000, seeds=[7, 1]).sample(scores[[0, 0]])
    assert batch[1] == Sampler(settings, 1, 1000).sample(scores[:1])[0]
    assert batch[0] != batch[1]
    subset = Sampler(settings, 2, 1000)
    assert subset.sample(scores[1:], [1]) == [Sampler(settings, 2, 1000).sample(scores)[1]]
    free = GenerationSettings(temperature=1.0)
    drawn = {tuple(Sampler(free, 2, 1000).sample(scores)) for _ in range(4)}
    assert len(drawn) > 1


def test_greedy_is_argmax_and_its_distribution_is_one_token() -> None:
    scores = logits(3, 40)
    sampler = Sampler(GenerationSettings(), 3, 40)
    assert sampler.sample(scores) == scores.argmax(-1).tolist()
    assert sampler.sample(scores.bfloat16()) == scores.bfloat16().argmax(-1).tolist()
    probs = sampler.distribution(scores)
    assert torch.equal(probs, torch.nn.functional.one_hot(scores.argmax(-1), 40).float())


def test_seen_tokens_are_kept_as_they_come_and_can_be_forgotten() -> None:
    settings = GenerationSettings(repetition_penalty=2.0)
    sampler = Sampler(settings, 1, 3)
    scores = torch.tensor([[3.0, 2.0, -1.0]])
    sampler.see(0, [2])
    assert [sampler.sample(scores)[0] for _ in range(3)] == [
        0,
        1,
        0,
    ]  # 3, then 1.5 < 2, then 1.5 > 1
    sampler.forget(0, [0, 0])
    assert sampler.sample(scores) == [0]
    sampler = Sampler(settings, 1, 3)
    sampler.see(0, [0, 0])
    sampler.forget(0, [0])
    assert sampler.sample(scores) == [1]  # seen twice, forgotten once: still seen


def test_counts_survive_inference_mode() -> None:
    settings = GenerationSettings(repetition_penalty=1.5)
    with torch.inference_mode():
        sampler = Sampler(settings, 2, 5)
        sampler.sample(torch.ones(2, 5))
        sampler.keep([1])
    sampler.see(0, [3])
    assert len(sampler.sample(torch.ones(1, 5))) == 1


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("penalty", [1.0, 1.5])
def test_logits_that_are_not_finite(bad: float, temperature: float, penalty: float) -> None:
    settings = GenerationSettings(temperature=temperature, repetition_penalty=penalty)
    scores = logits(3, 10)
    scores[1, 4] = bad
    with pytest.raises(UserError, match="row 1") as caught:
        Sampler(settings, 3, 10).sample(scores)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="not finite"):
        Sampler(settings, 1, 10).sample(torch.full((1, 10), float("-inf")))


def test_masked_tokens_are_fine() -> None:
    scores = logits(1, 10)
    scores[0, 3:] = float("-inf")
    sampler = Sampler(GenerationSettings(temperature=1.0, seed=0, top_p=0.99, top_k=5), 1, 10)
    assert all(sampler.sample(scores)[0] < 3 for _ in range(20))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_among_equals_the_first_is_chosen(dtype: torch.dtype) -> None:
    """As transformers' argmax does."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randint(0, 4, (200, 300), generator=generator).to(dtype)
    sampler = Sampler(GenerationSettings(), 200, 300)
    first = [row.index(max(row)) for row in logits.tolist()]
    assert sampler.sample(logits) == first


def test_rows_of_several_samplers_together_draw_as_each_alone() -> None:
    """Greedy ones, drawn ones alike and not alike, with a penalty; one row has no numbers."""
    kinds: list[dict[str, Any]] = [
        {},
        {"temperature": 0.7, "seed": 1},
        {"temperature": 0.7, "seed": 2},
        {"temperature": 0.7, "seed": 2, "top_k": 3},
        {"repetition_penalty": 1.5},
        {},
        {"temperature": 0.7, "seed": 3},
    ]
    together = [Sampler(GenerationSettings(**kind), 2, 40) for kind in kinds]
    apart = [Sampler(GenerationSettings(**kind), 2, 40) for kind in kinds]
    for step in range(6):
        logits = torch.randn(7, 40, generator=torch.Generator().manual_seed(step))
        if step == 3:
            logits[2, 5] = float("nan")
        got = sample_each(logits, [(sampler, 1) for sampler in together])
        for at, sampler in enumerate(apart):
            if step == 3 and at == 2:
                assert isinstance(got[at], UserError)
            else:
                assert got[at] == sampler.sample(logits[at : at + 1], [1])[0]
