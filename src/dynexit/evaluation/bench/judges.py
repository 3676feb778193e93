"""The judges suite: what a check costs.

A row is a kind of judge at the model's hidden size, with random weights where it is trained, at the
default exits: ``seconds`` of one check (with ``low`` and ``high``), ``share_of_layer`` and
``share_of_readout``, its time against that of a mean layer and of a readout, and ``overhead``, by
how much decoding at full depth is longer with every exit checked and none taken. A check timed
alone may find its weights in the processor's caches, as decoding would not: ``overhead`` tells the
whole. Judges that read out the vocabulary pay for that in both. The first rows are the layer and
the readout themselves, and a token at full depth without a judge.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from dynexit.evaluation.bench.decoding import NEVER, PROMPT, never_leave, seconds_per_step
from dynexit.evaluation.bench.judging import judge_of, judges_of
from dynexit.evaluation.bench.limits import Limits
from dynexit.evaluation.bench.plan import Plan
from dynexit.evaluation.bench.rounds import Found
from dynexit.evaluation.bench.subject import Subject
from dynexit.evaluation.bench.suite import Row, Runs, ratio, spread
from dynexit.exits.judge import Evidence, Judge, check_layers, default_layers


@dataclass(frozen=True)
class Part:
    """A layer, a readout, a token at full depth, or a judge's check or token."""

    what: str  # "layer", "readout", "check" or "token"
    judge: str = "none"


LAYER, READOUT, FULL = Part("layer"), Part("readout"), Part("token")


class Judges:
    """Every kind of judge against a layer, a readout and plain decoding."""

    def __init__(self, subject: Subject, plan: Plan) -> None:
        self._subject, self._tokens = subject, plan.tokens
        self._kinds = judges_of(plan.judges, subject.config)
        depth = subject.config.depth
        self._layers = check_layers(plan.layers or default_layers(depth), depth)

    def runs(self) -> Runs:
        runs: dict[Hashable, Callable[[], float]] = {
            FULL: partial(self._token, None),
            LAYER: self._layer,
            READOUT: self._readout,
        }
        for kind in self._kinds:
            runs[Part("check", kind)] = partial(self._check, kind)
            runs[Part("token", kind)] = partial(self._token, kind)
        return runs

    def _token(self, kind: str | None) -> float:
        backbone = self._subject.backbone
        policy = None if kind is None else never_leave(self._judges[kind])
        return seconds_per_step(backbone, policy, self._tokens)

    @cached_property
    def _hidden(self) -> Tensor:
        """One token's hidden state [1, hidden], as the residual stream has it."""
        backbone = self._subject.backbone
        like = backbone.embed(torch.zeros(1, 1, dtype=torch.long))[0]
        generator = torch.Generator().manual_seed(0)
        return torch.randn(like.shape, generator=generator).to(like.dtype)

    @cached_property
    def _judges(self) -> dict[str, Judge]:
        return {kind: judge_of(self._subject, kind, self._layers) for kind in self._kinds}

    @torch.inference_mode()
    def _layer(self) -> float:
        backbone = self._subject.backbone
        cache, place = backbone.new_cache(1, PROMPT + 1), backbone.place([PROMPT], [1])
        hidden, depth = self._hidden[None], backbone.depth
        return self._mean(lambda: backbone.run(hidden, cache, 0, depth, place)) / depth

    @torch.inference_mode()
    def _readout(self) -> float:
        return self._mean(lambda: self._subject.backbone.readout(self._hidden))

    @torch.inference_mode()
    def _check(self, kind: str) -> float:
        judge, hidden = self._judges[kind], self._hidden
        state, exits = judge.new_state(1), range(len(judge.layers))

        def readout(exit: int, hidden: Tensor) -> Tensor:
            return self._subject.backbone.readout(hidden)

        def check_all() -> None:
            for exit in exits:
                judge.score(exit, Evidence(exit, hidden, readout, NEVER), state, None).tolist()

        return self._mean(check_all) / len(exits)

    def _mean(self, call: Callable[[], object]) -> float:
        """Mean seconds of a call, the first apart."""
        call()
        begin = time.perf_counter()
        for _ in range(self._tokens):
            call()
        return (time.perf_counter() - begin) / self._tokens

    def rows(self, found: Found, limits: Limits) -> list[Row]:
        return list(self._rows(found))

    def _rows(self, found: Found) -> Iterator[Row]:
        layer, readout, full = (found.median(part) for part in (LAYER, READOUT, FULL))
        checks = [Part("check", kind) for kind in self._kinds]
        for part in (LAYER, READOUT, FULL, *checks):
            if part not in found.samples:
                continue
            seconds, token = spread(found, part), found.median(Part("token", part.judge))
            longer = ratio(token, full) if part.what == "check" else None
            yield {
                "what": part.what,
                "judge": part.judge,
                **seconds,
                "share_of_layer": None if part == FULL else ratio(seconds["seconds"], layer),
                "share_of_readout": None if part == FULL else ratio(seconds["seconds"], readout),
                "overhead": None if longer is None else longer - 1,
            }
