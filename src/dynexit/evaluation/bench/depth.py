"""The depth suite: how much of what an exit saves in bytes arrives as time.

A row is a fixed exit layer with a state policy and a judge, and the first row is full depth:

``seconds`` (with ``low`` and ``high`` over rounds) and ``tokens_per_second`` of greedy decoding at
batch 1; ``speedup`` over full depth; ``byte_share``, the bytes a token moves against full depth;
``realised_saving``, (1 - t_exit / t_full) / (1 - byte_share); ``gb_per_second`` that were moved;
``matvec_share``, of the best matrix-vector bandwidth of the machine in the dtype that the weights
are stored in, at full depth.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from dynexit.evaluation.bench.bytes_moved import BytesMoved
from dynexit.evaluation.bench.decoding import PROMPT, WARM_UP, leave_at, seconds_per_step
from dynexit.evaluation.bench.judging import judges_of
from dynexit.evaluation.bench.limits import Limits
from dynexit.evaluation.bench.plan import Plan
from dynexit.evaluation.bench.rounds import Found
from dynexit.evaluation.bench.subject import Subject
from dynexit.evaluation.bench.suite import Row, Runs, ratio, spread
from dynexit.evaluation.bench.wishes import exit_layers, states_of


@dataclass(frozen=True)
class Leaving:
    """Every token leaves after ``layer``."""

    layer: int
    state: str = "none"
    judge: str = "none"


class Depth:
    """Fixed exits against full depth."""

    def __init__(self, subject: Subject, plan: Plan) -> None:
        self._subject, self._tokens = subject, plan.tokens
        depth = subject.config.depth
        layers = exit_layers(plan.layers, depth, subject.small)
        self._full = Leaving(depth)
        self._exits = [
            Leaving(layer, state, judge)
            for state in states_of(plan.states, subject.config)
            for judge in judges_of(plan.judges or ("fixed",), subject.config)
            for layer in layers
            if layer < depth
        ]

    def runs(self) -> Runs:
        return {key: partial(self._run, key) for key in (self._full, *self._exits)}

    def _run(self, key: Leaving) -> float:
        policy = leave_at(self._subject, key.layer, key.state, key.judge)
        return seconds_per_step(self._subject.backbone, policy, self._tokens)

    def rows(self, found: Found, limits: Limits) -> list[Row]:
        return list(self._rows(found, limits))

    def _rows(self, found: Found, limits: Limits) -> Iterator[Row]:
        context = PROMPT + WARM_UP + self._tokens // 2
        moved = BytesMoved(self._subject.config, self._subject.dtype, context)
        full_bytes, full = moved.full(), found.median(self._full)
        limit = limits.best(self._subject.stored, found)
        for key in (self._full, *self._exits):
            if key not in found.samples:
                continue
            seconds = spread(found, key)
            policy = leave_at(self._subject, key.layer, key.state, key.judge)
            size = full_bytes if policy is None else moved.leaving(key.layer, policy)
            speedup, share = ratio(full, seconds["seconds"]), size / full_bytes
            saved = None if speedup is None or policy is None else 1 - 1 / speedup
            rate = size / seconds["seconds"] / 1e9
            yield {
                "exit_layer": key.layer,
                "state": key.state,
                "judge": key.judge,
                **seconds,
                "tokens_per_second": 1 / seconds["seconds"],
                "speedup": speedup,
                "byte_share": share,
                "realised_saving": ratio(saved, 1 - share),
                "gb_per_second": rate,
                "matvec_share": ratio(rate, limit) if policy is None else None,
            }
