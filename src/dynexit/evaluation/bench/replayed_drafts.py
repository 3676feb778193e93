"""One model's drafts, replayed in another: they leave where those left and fall where those fell.

What drafting gives depends on how often drafts are right, which only trained models tell, and on
what layers cost, which only large ones do. This has the first from a small trained model and the
second from a large one of random weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

import torch
from torch import Tensor

from dynexit.evaluation.bench.subject import Subject
from dynexit.evaluation.runner import answer_in_batches
from dynexit.evaluation.tasks import Task
from dynexit.exits.judge import Evidence, Judge, JudgeState
from dynexit.exits.judges import build_judge
from dynexit.exits.policy import ExitPolicy
from dynexit.exits.skipped import skipped_state
from dynexit.exits.translator import Translators
from dynexit.inference.likelihood import log_likelihood_ids
from dynexit.inference.prompts import encode_prompt
from dynexit.inference.speculative.speculation import Speculation
from dynexit.models.loading import Model
from dynexit.models.placement import Placement

LEAVE = 0.5  # between the scores, which are 0 and 1


@dataclass(frozen=True)
class Trace:
    """One answer: for each of its tokens the number of the exit where the judge lets it go (that of
    exits in all: nowhere), and whether the best token there is the full model's."""

    exits: tuple[int, ...]
    right: tuple[bool, ...]


def traces(model: Model, tasks: Sequence[Task], policy: ExitPolicy) -> list[Trace]:
    """Traces of the model's own answers at full depth to the tasks' questions, each step fed with
    the full model's token."""
    full = answer_in_batches(model, tasks, None)
    questions = [question for task in tasks for question in task.questions]
    pairs = [
        (encode_prompt(model, question.prompt), generation.ids)
        for question, generation in zip(questions, full, strict=True)
    ]
    number = {layer: at for at, layer in enumerate((*policy.layers, model.backbone.depth))}
    found = log_likelihood_ids(model, pairs, policy)
    return [Trace(tuple(number[e] for e in one.exit_layers), one.greedy) for one in found]


def scaled(layers: Sequence[int], depth: int, to: int) -> tuple[int, ...]:
    """Exit layers of a model of ``depth`` layers at no smaller a share of ``to`` layers."""
    return tuple(ceil(Fraction(layer * to, depth)) for layer in layers)


class Replay:
    """Where a text stands in the trace that it follows; before the first, every token stays."""

    def __init__(self) -> None:
        self._trace = Trace((), ())
        self._speculation: Speculation | None = None
        self._start = 0

    def follow(self, trace: Trace, speculation: Speculation) -> None:
        """The next token that is fed is the first of this trace."""
        self._trace, self._speculation = trace, speculation
        self._start = speculation.decoder.lengths[0]

    def leaves(self, exit: int) -> bool:
        """Whether the token at hand leaves at exit number ``exit``, if it did not before."""
        at = self._at()
        return at is not None and self._trace.exits[at] <= exit

    def is_right(self) -> bool:
        at = self._at()
        return at is None or self._trace.right[at]

    def _at(self) -> int | None:
        if self._speculation is None:
            return None
        at = self._speculation.decoder.lengths[0] - self._start
        return at if at < len(self._trace.exits) else None


class ReplayedJudge:
    """Another judge, whose work is done and whose scores are not believed."""

    def __init__(self, judge: Judge, replay: Replay) -> None:
        self._judge, self._replay = judge, replay
        self.kind, self.layers = judge.kind, judge.layers

    def new_state(self, rows: int) -> JudgeState:
        return self._judge.new_state(rows)

    def observe(self, exit: int, hidden: Tensor, state: JudgeState, place: Placement) -> None:
        self._judge.observe(exit, hidden, state, place)

    def score(
        self, exit: int, evidence: Evidence, state: JudgeState, rows: Tensor | None
    ) -> Tensor:
        scores = self._judge.score(exit, evidence, state, rows)
        return torch.full_like(scores, float(self._replay.leaves(exit)))

    def flops(self, exit: int) -> int:
        return self._judge.flops(exit)

    def weight_bytes(self, exit: int) -> int:
        return self._judge.weight_bytes(exit)

    def needs_logits(self) -> bool:
        return self._judge.needs_logits()


class Misled(Translators):
    """Turns the hidden state of a draft that is not right into its opposite, whose best token is
    the worst."""

    def __init__(self, replay: Replay) -> None:
        super().__init__((), 0)
        self._replay = replay

    def apply(self, exit: int, hidden: Tensor) -> Tensor:  # type: ignore[override]
        return hidden if self._replay.is_right() else -hidden

    def weight_bytes(self) -> int:
        return 0


def replaying(subject: Subject, kind: str, layers: Sequence[int], replay: Replay) -> ExitPolicy:
    """Drafts of the large model that follow ``replay``, at the price of a judge of that kind."""
    judge = build_judge(kind, layers, subject.config.hidden, subject.backbone.device)
    limits, state = (LEAVE,) * len(layers), skipped_state("recompute")
    return ExitPolicy(ReplayedJudge(judge, replay), limits, state, translators=Misled(replay))
