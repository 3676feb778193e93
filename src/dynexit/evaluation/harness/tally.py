"""What exits did, for the harness's results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dynexit.evaluation.ways import all_drafting, describe_drafting
from dynexit.exits.policy import ExitPolicy
from dynexit.inference.cost import DecodingCost, decoding_cost
from dynexit.inference.generation import Drafting, GeneratedToken, Generation
from dynexit.inference.likelihood import Likelihood
from dynexit.models.config import BackboneConfig


@dataclass
class ExitTally:
    """Tokens by exit layer, what they cost against full depth, and what became of drafts."""

    depth: int
    exits: Counter[int] = field(default_factory=Counter)
    cost: DecodingCost = field(default_factory=DecodingCost)
    drafting: Drafting | None = None

    def add(self, answers: Sequence[Generation], cost: DecodingCost) -> None:
        """Count the tokens of answers that together cost ``cost``."""
        self.exits.update(token.exit_layer for answer in answers for token in answer.tokens)
        self.cost += cost
        self.drafting = all_drafting([self.drafting, *(one.drafting for one in answers)])

    def describe(self) -> dict[str, Any]:
        """Savings are shares of the full model's layers, FLOPs and bytes, in [0, 1] where exits
        save; ``exit_layers`` are numbers of tokens. Where exits drafted, layers saved are readings
        saved, and exit layers those of drafts."""
        tokens = self.exits.total()
        layers = sum(layer * count for layer, count in self.exits.items())
        mean = layers / tokens if tokens else float(self.depth)
        return {
            "tokens": tokens,
            "mean_exit_layer": mean,
            "layer_saving": self.cost.layer_saving,
            "flop_saving": self.cost.flop_saving,
            "byte_saving": self.cost.byte_saving,
            "exit_layers": {str(layer): self.exits[layer] for layer in sorted(self.exits)},
            **({} if self.drafting is None else describe_drafting(self.drafting)),
        }


class Tallies:
    """Tallies by task and by what was done with the tokens: ``generated`` or ``scored``."""

    def __init__(self, config: BackboneConfig) -> None:
        self._config = config
        self._tallies: dict[tuple[str, str], ExitTally] = {}

    def add(
        self,
        kind: str,
        tasks: Sequence[str],
        answers: Sequence[Generation],
        policy: ExitPolicy | None,
    ) -> None:
        """Count answers with the exits of ``policy``, the n-th of which is of the n-th task."""
        for task in dict.fromkeys(tasks):
            own = [answer for name, answer in zip(tasks, answers, strict=True) if name == task]
            key = (task, kind)
            tally = self._tallies.setdefault(key, ExitTally(self._config.depth))
            tally.add(own, self._cost(own, policy))

    def _cost(self, answers: Iterable[Generation], policy: ExitPolicy | None) -> DecodingCost:
        """Without a policy nothing differs from full depth."""
        return DecodingCost() if policy is None else decoding_cost(answers, self._config, policy)

    def describe(self) -> dict[str, dict[str, Any]]:
        """By task, then by ``generated`` and ``scored``."""
        found: dict[str, dict[str, Any]] = {}
        for (task, kind), tally in self._tallies.items():
            found.setdefault(task, {})[kind] = tally.describe()
        return found


def as_generation(likelihood: Likelihood, depth: int) -> Generation:
    """A scored continuation as if its tokens had been decoded, which is what they cost."""
    tokens = tuple(GeneratedToken(0, "", layer, None) for layer in likelihood.exit_layers)
    return Generation(likelihood.prompt_tokens, tokens, "", depth, 0.0, 0.0, "stop")
