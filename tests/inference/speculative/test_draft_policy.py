"""The draft policy against chance: what it costs where nothing is accepted, what it finds where
much is."""

from __future__ import annotations

import random

import pytest

from dynexit.inference.speculative.draft_policy import DraftPolicy

HALF, VERIFYING, LONGEST = 0.55, 0.05, 7


def policy(costs: dict[int, float] | None = None, expected: float = 2 / 3) -> DraftPolicy:
    costs = costs or {8: HALF}
    return DraftPolicy(costs, VERIFYING, LONGEST, dict.fromkeys(costs, expected))


def simulate(
    drafting: DraftPolicy, right: dict[int, float], tokens: int, seed: int = 0
) -> tuple[float, list[int]]:
    """Cost of that many tokens, where plain ones cost 1 each, and the drafts of each cycle. Exits
    are used at random."""
    chance, cost, made, lengths = random.Random(seed), 0.0, 0, []
    exits = sorted(right)
    while made < tokens:
        longest = drafting.length()
        left: list[int] = []
        while len(left) < longest and (not left or drafting.goes_on(left)):
            left.append(chance.choice(exits))
        cost += 1.0 + sum(drafting._costs[e] for e in left) + VERIFYING * len(left)
        stood = 0
        while stood < len(left) and chance.random() < right[left[stood]]:
            stood += 1
        drafting.learn(left, stood)
        made += stood + 1
        lengths.append(len(left))
    return cost / made, lengths


@pytest.mark.parametrize("tokens", [64, 128, 1000])
@pytest.mark.parametrize("cost_of_a_draft", [0.3, HALF])
def test_nothing_accepted_costs_three_percent_at_most(tokens: int, cost_of_a_draft: float) -> None:
    cost, lengths = simulate(policy({8: cost_of_a_draft}), {8: 0.0}, tokens)
    assert cost <= 1.03
    assert tokens < 128 or sum(lengths) > 1  # it goes on trying


def test_all_accepted_comes_near_the_best() -> None:
    cost, lengths = simulate(policy(), {8: 1.0}, 400)
    best = (1.0 + LONGEST * (HALF + VERIFYING)) / (LONGEST + 1)
    assert cost < 1.04 * best
    assert max(lengths) == LONGEST


@pytest.mark.parametrize("right", [0.3, 0.5, 0.7, 0.8, 0.9])
def test_never_much_worse_than_the_best_fixed_length(right: float) -> None:
    cost, _ = simulate(policy(), {8: right}, 4000)
    best = min((1 + k * (HALF + VERIFYING)) / sum(right**i for i in range(k + 1)) for k in range(8))
    assert cost < 1.03 * best


def test_text_that_changes() -> None:
    """Where drafts begin to stand again it notices, and where they cease to."""
    drafting = policy()
    simulate(drafting, {8: 0.0}, 500)
    cost, _ = simulate(drafting, {8: 1.0}, 3000)
    assert cost < 0.75
    cost, _ = simulate(drafting, {8: 0.0}, 3000)
    assert cost < 1.03


def test_a_bad_exit_ends_a_draft_early() -> None:
    drafting = policy({2: 0.2, 8: HALF})
    simulate(drafting, {2: 0.1, 8: 0.99}, 3000)
    assert drafting.acceptance(2) < 0.3
    assert drafting.acceptance(8) > 0.9
    assert drafting.goes_on([8])
    assert not drafting.goes_on([2, 2])


def test_trust_in_a_trained_judge_drafts_far_at_once() -> None:
    assert policy(expected=0.98).length() == LONGEST
    assert policy(expected=0.3).length() == 0
