"""What decoding cost against what the full model would have, for the very same tokens.

Everything is counted: layers, embedding and readout, the checks of the judge with the readouts they
ask for (that of the exit taken is the token's own), translators, what the state policy does for
skipped layers, and with recompute the earlier tokens that catch up. The prompt without its last
token is run at full depth either way and is not part of the comparison.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from dynexit.errors import UserError
from dynexit.exits.policy import ExitPolicy
from dynexit.exits.recompute import Recompute
from dynexit.exits.translator import Translators
from dynexit.inference.generation import Drafting, Generation
from dynexit.models.config import AttentionConfig, BackboneConfig
from dynexit.models.cost import (
    LayerCost,
    advance_cost,
    embedding_cost,
    layer_cost,
    readout_cost,
)

Costs = NDArray[np.int64]  # last dimension: FLOPs, bytes of weights, bytes of state


@dataclass(frozen=True)
class DecodingCost:
    """Decode steps of one or more answers: FLOPs, bytes and layers, and those of the full model."""

    flops: int = 0
    bytes: int = 0
    layers: int = 0
    full_flops: int = 0
    full_bytes: int = 0
    full_layers: int = 0

    @property
    def flop_saving(self) -> float:
        """1 - FLOPs / the full model's; below 0 where checks cost more than exits save."""
        return 1.0 - self.flops / self.full_flops if self.full_flops else 0.0

    @property
    def byte_saving(self) -> float:
        """1 - bytes of weights and state moved / the full model's."""
        return 1.0 - self.bytes / self.full_bytes if self.full_bytes else 0.0

    @property
    def layer_saving(self) -> float:
        """1 - layers run until each token was known / the full model's.

        What runs later, so that skipped state is exact, is in FLOPs and bytes.
        """
        return 1.0 - self.layers / self.full_layers if self.full_layers else 0.0

    def __add__(self, other: DecodingCost) -> DecodingCost:
        return DecodingCost(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


def decoding_cost(
    generations: Generation | Iterable[Generation],
    config: BackboneConfig,
    policy: ExitPolicy | None = None,
    dtype_bytes: int | None = None,
) -> DecodingCost:
    """Cost of all decode steps of answers made with ``policy`` (None: the full model).

    ``dtype_bytes`` is the size of a weight (None: of the checkpoint's dtype). Batch of one: what
    a batch shares is counted for each of its rows.
    """
    answers = [generations] if isinstance(generations, Generation) else generations
    pricing = Pricing(config, policy, dtype_bytes)
    return sum((pricing.answer(answer) for answer in answers), DecodingCost())


class Pricing:
    """Costs of one model and policy, by exit layer."""

    def __init__(
        self, config: BackboneConfig, policy: ExitPolicy | None, dtype_bytes: int | None
    ) -> None:
        self.depth = config.depth
        self.limit = policy.state.limit if policy and isinstance(policy.state, Recompute) else None
        self._layers = LayerTable(config, dtype_bytes)
        self._ends = _row(embedding_cost(config, dtype_bytes) + readout_cost(config, dtype_bytes))
        exits = range(1, config.depth + 1)
        beside = [LayerCost()] * (config.depth + 1)
        if policy is not None:
            beside[1:] = [_beside(config, policy, layer, dtype_bytes) for layer in exits]
        self._beside = np.stack([_row(cost) for cost in beside])
        # readouts of judges that read out at some checks only are counted by the tokens
        counted = policy is not None and not policy.judge.needs_logits()
        self._idle = _row(_readout(config, policy, dtype_bytes) if counted else LayerCost())

    def answer(self, generation: Generation) -> DecodingCost:
        """Cost of one answer. The step of token t reads the text up to the token before it."""
        count = len(generation.tokens)
        if count == 0:
            return DecodingCost()
        exits = np.array([token.exit_layer for token in generation.tokens])
        if exits.min() < 1 or exits.max() > self.depth:
            raise UserError(
                f"an exit layer of the answer is outside the model of {self.depth} layers; "
                "cost needs the model that made the answer"
            )
        upto = self._layers.upto(generation.prompt_tokens - 1 + np.arange(count))
        ends = count * self._ends
        full = upto[:, self.depth].sum(0) + ends
        if generation.drafting is not None:
            return self._drafted(generation.drafting, exits, generation.prompt_tokens, full)
        spent = upto[np.arange(count), exits].sum(0) + self._beside[exits].sum(0) + ends
        spent = spent + sum(token.idle_readouts for token in generation.tokens) * self._idle
        if self.limit is not None:
            spent = spent + self._caught_up(exits.tolist(), upto, self.limit)
        return DecodingCost(
            flops=int(spent[0]),
            bytes=int(spent[1] + spent[2]),
            layers=int(exits.sum()),
            full_flops=int(full[0]),
            full_bytes=int(full[1] + full[2]),
            full_layers=count * self.depth,
        )

    def _drafted(
        self, drafting: Drafting, exits: NDArray[np.int64], prompt: int, full: Costs
    ) -> DecodingCost:
        """Every token fed runs through all layers, those that fell too, and is read out there; a
        draft is read out at its exit as well. Weights are read once for all tokens that go through
        a layer together. Tokens that fell count as if they stood at the middle of the answer."""
        passes, drafts = np.array(drafting.passes), drafting.drafts
        layers = self._layers.at(prompt - 1 + len(exits) // 2)  # [depth, 3]
        early = exits[exits < self.depth]
        beside = self._beside[early].mean(0) if len(early) else self._beside[0]
        flops = drafting.fed * (layers[:, 0].sum() + self._ends[0]) + drafts * self._ends[0]
        moved = (passes[:, None] * layers[:, 1:]).sum()
        moved += (drafts + passes[-1]) * self._ends[1:].sum()
        moved += drafting.cycles * self._layers.recurrent(layers)[:, 2].sum()  # ways back
        return DecodingCost(
            flops=int(flops + drafts * beside[0]),
            bytes=int(moved + drafts * beside[1:].sum()),
            layers=int(passes.sum()),
            full_flops=int(full[0]),
            full_bytes=int(full[1] + full[2]),
            full_layers=len(exits) * self.depth,
        )

    def _caught_up(self, exits: Sequence[int], upto: Costs, limit: int) -> Costs:
        """Cost of earlier tokens going along with a deeper one.

        The weights of a layer are read once for all of them, and so is its state; each token
        writes its own keys and values.
        """
        total = np.zeros(3, dtype=np.int64)
        waiting: list[tuple[int, int]] = []  # tokens and the layer each has reached
        for token, layer in enumerate(exits):
            goal = layer
            if layer < self.depth and len(waiting) + 1 > limit:  # too many: all go to the end
                goal = self.depth
                total += upto[token, goal] - upto[token, layer]
            for earlier, reached in waiting:
                if reached < goal:
                    total[0] += upto[earlier, goal, 0] - upto[earlier, reached, 0]
                    total[2] += self._layers.written[goal] - self._layers.written[reached]
            waiting = [(earlier, max(reached, goal)) for earlier, reached in waiting]
            waiting = [*waiting, (token, layer)] if goal < self.depth else []
        return total


class LayerTable:
    """Costs of the first l layers, for tokens at any position.

    A layer's cost grows by the same amount with each token it attends to, up to its window.
    ``written`` [depth + 1] is the bytes of keys and values that a token writes in them.
    """

    def __init__(self, config: BackboneConfig, dtype_bytes: int | None) -> None:
        layers = range(config.depth)
        first = np.stack([_row(layer_cost(config, i, 0, dtype_bytes)) for i in layers])
        second = np.stack([_row(layer_cost(config, i, 1, dtype_bytes)) for i in layers])
        self._first, self._growth = first, second - first
        mixers = [layer.mixer for layer in config.layers]
        attends = np.array([isinstance(mixer, AttentionConfig) for mixer in mixers])
        self._attends = attends
        windows = [m.window if isinstance(m, AttentionConfig) else None for m in mixers]
        self._most = np.array([np.iinfo(np.int64).max if w is None else w - 1 for w in windows])
        states = [advance_cost(config, i, dtype_bytes).state_bytes for i in layers]
        self.written = np.cumsum([0, *np.where(attends, states, 0)])

    def upto(self, contexts: NDArray[np.int64]) -> Costs:
        """[tokens, depth + 1, 3] for tokens with that many others before them."""
        others = np.minimum(contexts[:, None], self._most)
        each = self._first + others[..., None] * self._growth
        return np.pad(each.cumsum(1), ((0, 0), (1, 0), (0, 0)))

    def at(self, context: int) -> Costs:
        """[depth, 3] of each layer for a token with that many others before it."""
        costs: Costs = self._first + np.minimum(context, self._most)[:, None] * self._growth
        return costs

    def recurrent(self, layers: Costs) -> Costs:
        """Those of [depth, 3] that are state-space layers'."""
        chosen: Costs = layers[~self._attends]
        return chosen


def _beside(
    config: BackboneConfig, policy: ExitPolicy, layer: int, dtype_bytes: int | None
) -> LayerCost:
    """What a token that leaves after ``layer`` costs beside layers and one readout."""
    checks = sum(exit_layer <= layer for exit_layer in policy.layers)
    left = int(layer < config.depth)
    readouts = checks if policy.judge.needs_logits() else left  # at exits
    cost = _times(readout_cost(config, dtype_bytes), readouts - left)
    if policy.translators is not None:
        cost += _times(_translation(policy.translators), readouts)
    for exit in range(checks):
        cost += LayerCost(policy.judge.flops(exit), policy.judge.weight_bytes(exit))
    cost += _times(LayerCost(state_bytes=_memory_bytes(policy)), checks)
    for index in range(layer, config.depth):
        if policy.state.name == "propagate":
            cost += advance_cost(config, index, dtype_bytes)
        elif policy.state.name == "copy":
            cost += LayerCost(0, 0, advance_cost(config, index, dtype_bytes).state_bytes)
    return cost


def _readout(
    config: BackboneConfig, policy: ExitPolicy | None, dtype_bytes: int | None
) -> LayerCost:
    """One readout at an exit."""
    cost = readout_cost(config, dtype_bytes)
    if policy is not None and policy.translators is not None:
        cost += _translation(policy.translators)
    return cost


def _translation(translators: Translators) -> LayerCost:
    return LayerCost(translators.flops(), translators.weight_bytes())


def judge_bytes(policy: ExitPolicy) -> LayerCost:
    """Bytes of one check: an exit's share of the judge's weights, its memory read and written."""
    judge, exits = policy.judge, len(policy.layers)
    weights = sum(judge.weight_bytes(exit) for exit in range(exits))
    return LayerCost(0, weights // exits, _memory_bytes(policy))


def _memory_bytes(policy: ExitPolicy) -> int:
    """Bytes of a judge's memory that one check reads and writes."""
    memory = sum(tensor.nbytes for tensor in policy.judge.new_state(1).tensors.values())
    return 2 * memory // len(policy.layers)


def _times(cost: LayerCost, count: int) -> LayerCost:
    return LayerCost(cost.flops * count, cost.weight_bytes * count, cost.state_bytes * count)


def _row(cost: LayerCost) -> Costs:
    return np.array(astuple(cost), dtype=np.int64)
