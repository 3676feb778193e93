"""Which layers a step drops and which it reads (LayerSkip, Elhoushi et al. 2024, section 4.1)."""

from __future__ import annotations

import math

from dynexit.training.finetune.recipe import ALL, ROTATIONAL, FinetuneRecipe


def dropout_rates(depth: int, most: float) -> list[float]:
    """The rate at which each layer is dropped: none at the first, ``most`` at the last, in between
    rising exponentially (equations 1 and 2, with the constant curriculum of fine-tuning)."""
    last = max(1, depth - 1)
    return [most * (math.exp(layer * math.log(2) / last) - 1.0) for layer in range(depth)]


def exit_weights(depth: int, step: int, recipe: FinetuneRecipe) -> list[float]:
    """The weight of the loss after each layer in a step; they sum to 1 (equations 4 to 6)."""
    scaled = [
        weight if is_read(layer, depth, step, recipe) else 0.0
        for layer, weight in enumerate(_scale(depth, recipe.exit_loss))
    ]
    total = sum(scaled)
    return [weight / total for weight in scaled]


def is_read(layer: int, depth: int, step: int, recipe: FinetuneRecipe) -> bool:
    """Whether a step has a loss after layer number ``layer`` (from 0): always after the last.

    Of the layers that are read at all (the paper's are all of them), *rotational* takes every
    ``interval``-th, another set in each step; *gradual* one more from the last one down, all of
    them when half of the steps are done; *all* every one.
    """
    chosen = range(1, depth) if recipe.layers is None else sorted(set(recipe.layers))
    exits = [*(number - 1 for number in chosen), depth - 1]
    if layer not in exits:
        return False
    number, count = exits.index(layer), len(exits)
    if number == count - 1 or recipe.curriculum == ALL:
        return True
    if recipe.curriculum == ROTATIONAL:
        interval = recipe.interval or max(1, count // 4)
        return number % interval == step % interval
    return step >= (count - 1 - number) * recipe.steps / (2 * count)


def _scale(depth: int, exit_loss: float) -> list[float]:
    """Deeper exits count more: theirs is the easier task. The first layer counts nothing."""
    earlier = [exit_loss * layer * (layer + 1) / 2 for layer in range(depth - 1)]
    before_last = exit_loss * (depth - 2) * (depth - 1) / 2
    return [*earlier, max(1, depth - 1) + before_last]
