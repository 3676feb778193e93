"""Multiple choice: options weighed by their likelihood, at full depth and with exits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean

from dynexit.evaluation.consistency import consistency
from dynexit.evaluation.measure import Measurement
from dynexit.evaluation.runner import FULL
from dynexit.evaluation.tasks.task import Question, Task
from dynexit.exits.policy import ExitPolicy
from dynexit.inference.cost import decoding_cost
from dynexit.inference.generation import GeneratedToken, Generation
from dynexit.inference.likelihood import Likelihood, log_likelihood
from dynexit.models.config import BackboneConfig
from dynexit.models.loading import Model
from dynexit.workers import ALONE, Workers


@dataclass(frozen=True)
class Weighed:
    """A question of a task and how likely one way of reading finds each of its options."""

    task: Task
    question: Question
    options: tuple[Likelihood, ...]

    @property
    def scores(self) -> Mapping[str, float]:
        if self.task.weigh is None:
            raise ValueError(f"task {self.task.name} is not multiple choice")
        return self.task.weigh([option.total for option in self.options], self.question)

    @property
    def chosen(self) -> int:
        """Number of the most likely option."""
        totals = [option.total for option in self.options]
        return totals.index(max(totals))


def weigh_all(
    model: Model,
    tasks: Sequence[Task],
    policies: Mapping[str, ExitPolicy],
    tick: Callable[[], None] = lambda: None,
    batch: int = 16,
    workers: Workers = ALONE,
) -> dict[str, list[Weighed]]:
    """The options of every question as weighed by the full model, under ``FULL``, and by each
    policy, ``batch`` questions at a time, which ``workers`` share. ``tick`` is called after each
    question."""
    ways: dict[str, ExitPolicy | None] = {FULL: None, **policies}
    weighed: dict[str, list[Weighed]] = {name: [] for name in ways}
    for task in tasks:
        found: dict[str, dict[int, Weighed]] = {name: {} for name in ways}
        for begin in workers.share(range(0, len(task.questions), batch)):
            group = task.questions[begin : begin + batch]
            for name, policy in ways.items():
                found[name].update(enumerate(_weigh(model, task, group, policy), begin))
            for _ in group:
                tick()
        _exchange(task, found, workers)
        for name, some in found.items():
            weighed[name] += [some[number] for number in range(len(task.questions))]
    return weighed


def _exchange(task: Task, found: Mapping[str, dict[int, Weighed]], workers: Workers) -> None:
    """Put what the other workers weighed into ``found``, and give them what is there."""
    if workers.count == 1:
        return
    rows = [
        (name, number, [asdict(option) for option in one.options])
        for name, some in found.items()
        for number, one in some.items()
    ]
    for name, number, options in workers.all_rows(rows):
        likelihoods = tuple(map(Likelihood.from_json, options))
        found[name][number] = Weighed(task, task.questions[number], likelihoods)


def _weigh(
    model: Model, task: Task, group: Sequence[Question], policy: ExitPolicy | None
) -> list[Weighed]:
    pairs = [(q.prompt, f" {option}") for q in group for option in q.options]
    found = iter(log_likelihood(model, pairs, policy, batch=32))
    return [Weighed(task, q, tuple(next(found) for _ in q.options)) for q in group]


def measure_choices(
    full: Sequence[Weighed],
    early: Sequence[Weighed],
    config: BackboneConfig,
    policy: ExitPolicy | None,
) -> Measurement:
    """Compare choices, question by question, with the full model's.

    Consistency is the share of questions for which the same option is the most likely; savings
    are over the tokens of all options, each read as in decoding. Nothing is decoded, so there is
    no speed: ``speedup`` and ``tokens_per_second`` are NaN.
    """
    read = [_as_decoded(option, config) for one in early for option in one.options]
    cost = decoding_cost(read, config, policy)
    return Measurement(
        n=len(early),
        metrics=_means(early),
        full_metrics=_means(full),
        levels={},
        consistency=consistency([[w.chosen] for w in full], [[w.chosen] for w in early]),
        layer_saving=cost.layer_saving,
        flop_saving=cost.flop_saving,
        byte_saving=cost.byte_saving,
        speedup=math.nan,
        tokens_per_second=math.nan,
        answer=cost,
    )


def _as_decoded(option: Likelihood, config: BackboneConfig) -> Generation:
    """An option as if its tokens had been generated, to be priced."""
    tokens = tuple(GeneratedToken(0, "", layer, None) for layer in option.exit_layers)
    return Generation(option.prompt_tokens, tokens, "", config.depth, 0.0, 0.0, "length")


def _means(weighed: Sequence[Weighed]) -> dict[str, float]:
    scores = [one.scores for one in weighed]
    return {name: fmean(s[name] for s in scores) for name in scores[0]} if scores else {}
