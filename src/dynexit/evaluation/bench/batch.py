"""The batch suite: what exits of mixed depth give where rows share the reading of weights.

A row is a batch size with full depth (state none) or a state policy: ``batch``, ``state``,
``seconds`` of a step of all rows (with ``low`` and ``high``), ``tokens_per_second`` of all rows,
``speedup`` over full depth in the same batch, ``mean_exit_layer`` and ``layer_saving``.
Each row and token leaves at an exit of its own, drawn evenly from a quarter, half, three quarters
and all of the depth (or from ``--layers`` and full depth), so it is 62.5% on average.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from dynexit.evaluation.bench.capacity import BESIDE_WEIGHTS, require_memory
from dynexit.evaluation.bench.decoding import PROMPT, WARM_UP, seconds_per_step
from dynexit.evaluation.bench.limits import Limits
from dynexit.evaluation.bench.plan import Plan
from dynexit.evaluation.bench.rounds import Found
from dynexit.evaluation.bench.scripted import Scripted
from dynexit.evaluation.bench.states import state_bytes
from dynexit.evaluation.bench.subject import Subject
from dynexit.evaluation.bench.suite import Row, Runs, ratio, spread
from dynexit.evaluation.bench.wishes import exit_layers, sizes_upto, states_of
from dynexit.exits.judge import check_layers
from dynexit.exits.policy import ExitPolicy
from dynexit.exits.skipped import skipped_state

SIZES = (1, 2, 4, 8, 16, 32)
STATES = ("recompute", "propagate")


@dataclass(frozen=True)
class Decoding:
    """A batch at full depth, or with exits and a state policy."""

    batch: int
    state: str = "none"


class Batch:
    """Exits of mixed depth against full depth, by batch size."""

    def __init__(self, subject: Subject, plan: Plan) -> None:
        self._subject, self._tokens = subject, plan.tokens
        config = subject.config
        layers = exit_layers(plan.layers, config.depth, small=False)
        self._judge = Scripted(check_layers(layers, config.depth), config.hidden, config.depth)
        states = states_of(plan.states or STATES, config)
        sizes = sizes_upto(plan.sizes, SIZES, None, "rows")
        self._keys = [Decoding(size, s) for size in sizes for s in ("none", *states)]
        held = state_bytes(config, PROMPT + WARM_UP + plan.tokens, subject.dtype) * sizes[-1]
        needed = subject.weight_bytes + held + BESIDE_WEIGHTS
        require_memory(needed, f"a batch of {sizes[-1]}", "give smaller ones with --sizes")

    def runs(self) -> Runs:
        return {key: partial(self._run, key) for key in self._keys}

    def _run(self, key: Decoding) -> float:
        return seconds_per_step(
            self._subject.backbone, self._policy(key), self._tokens, rows=key.batch
        )

    def _policy(self, key: Decoding) -> ExitPolicy | None:
        if key.state == "none":
            return None
        thresholds = (1.0,) * len(self._judge.layers)
        return ExitPolicy(self._judge, thresholds, skipped_state(key.state))

    def rows(self, found: Found, limits: Limits) -> list[Row]:
        return list(self._rows(found))

    def _rows(self, found: Found) -> Iterator[Row]:
        depth = self._subject.config.depth
        for key in self._keys:
            if key not in found.samples:
                continue
            seconds, full = spread(found, key), found.median(Decoding(key.batch))
            mean = float(depth)
            if key.state != "none":
                mean = self._judge.mean_layer(key.batch, WARM_UP + self._tokens)
            yield {
                "batch": key.batch,
                "state": key.state,
                **seconds,
                "tokens_per_second": key.batch / seconds["seconds"],
                "speedup": ratio(full, seconds["seconds"]),
                "mean_exit_layer": mean,
                "layer_saving": 1 - mean / depth,
            }
