"""The main job in small, on one model: train exits, choose thresholds, decode, measure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean

from dynexit.errors import UserError
from dynexit.evaluation.consistency import consistency
from dynexit.evaluation.counting import Counting
from dynexit.evaluation.measure import measure
from dynexit.evaluation.replay import record, same_answer
from dynexit.evaluation.row import Row
from dynexit.evaluation.runner import FULL, Answer, answer_all, answer_in_batches
from dynexit.evaluation.tasks import Task
from dynexit.evaluation.tasks.reference import reference_tasks
from dynexit.evaluation.thresholds import smallest_consistent
from dynexit.exits.choice import FIRST_EXIT
from dynexit.exits.exit_set import load_exit_set
from dynexit.exits.judge import Judge, default_layers
from dynexit.exits.judges import DYNAMAX_JUDGES, JUDGES, TRAINED_JUDGES, build_judge
from dynexit.exits.policy import ExitPolicy
from dynexit.exits.skipped import NAMES, skipped_state
from dynexit.models.config import BackboneConfig
from dynexit.models.loading import Model
from dynexit.training import ExitRecipe, collect_store, fit_exits

EXACT = "recompute"
MAIN_JUDGE = "mamba"


@dataclass(frozen=True)
class DemoRecipe:
    """How much is done. ``validation`` and ``questions`` are numbers of questions of each task;
    ``target`` is the consistency that a threshold must reach on the validation questions."""

    validation: int = 35
    questions: int = 25
    target: float = 0.97
    training: ExitRecipe = field(default_factory=lambda: ExitRecipe(prompts=450, epochs=8))


@dataclass(frozen=True)
class DemoResult:
    """Rows of one model, its full depth as a row of its own, and an answer worth showing."""

    full: Row
    rows: list[Row]
    example: Answer


@dataclass(frozen=True)
class _Way:
    """A judge with a state policy, at the threshold chosen for it (None: no threshold is safe)."""

    judge: Judge
    state: str
    threshold: float | None = None

    def at(self, threshold: float) -> ExitPolicy:
        thresholds = (threshold,) * len(self.judge.layers)
        return ExitPolicy(self.judge, thresholds, skipped_state(self.state))

    @property
    def name(self) -> str:
        return f"{self.judge.kind} {self.state}"


def run_demo(
    model: Model, recipe: DemoRecipe, exits: Path, work: Path, counting: Counting
) -> DemoResult:
    """All of it for one model; exit sets go to ``exits``, what is only of use meanwhile to
    ``work``."""
    judges = _judges(model, recipe.training, exits, work)
    tasks = reference_tasks(recipe.validation + recipe.questions)
    validation = [_part(task, 0, recipe.validation) for task in tasks]
    held_out = [_part(task, recipe.validation, None) for task in tasks]
    ways = list(_ways(judges, model.backbone.config))
    with counting(f"{model.name}: choosing thresholds", len(ways)) as tick:
        settle = _settler(model, validation, judges[0].layers, recipe.target)
        for number, way in enumerate(ways):
            ways[number] = settle(way)
            tick()
    policies = {w.name: w.at(w.threshold) for w in ways if w.threshold is not None}
    asked = sum(len(task.questions) for task in held_out)
    with counting(f"{model.name}: answering", asked) as tick:
        answers = answer_all(model, held_out, policies, tick)
    shown = answers.get(f"{MAIN_JUDGE} {EXACT}", answers[FULL])
    return DemoResult(
        full=_row(model, None, answers),
        rows=[_row(model, way, answers) for way in ways],
        example=max(shown, key=_interest),
    )


def applicable_states(config: BackboneConfig) -> list[str]:
    """The state policies that have a meaning for these layers."""
    return [name for name in NAMES if _applies(name, config)]


def _applies(name: str, config: BackboneConfig) -> bool:
    try:
        skipped_state(name).check(config)
    except UserError:
        return False
    return True


def _judges(model: Model, training: ExitRecipe, exits: Path, work: Path) -> list[Judge]:
    """DYNAMAX's trained judges, fitted now on one collection, and those that need no training."""
    layers = default_layers(model.backbone.depth, first=FIRST_EXIT)
    training = replace(training, layers=layers)
    store = collect_store(model, training, work)
    judges: list[Judge] = []
    for kind in DYNAMAX_JUDGES:
        fit_exits(model, store, replace(training, judge=kind), exits / kind, work)
        judges.append(load_exit_set(exits / kind, model.backbone).judge)
    untrained = [kind for kind in JUDGES if kind not in (*TRAINED_JUDGES, "fixed")]
    hidden, device = model.backbone.config.hidden, model.backbone.device
    return judges + [build_judge(kind, layers, hidden, device) for kind in untrained]


def _ways(judges: Sequence[Judge], config: BackboneConfig) -> Iterator[_Way]:
    """Every judge with exact states, and the main judge with every other state policy."""
    for judge in judges:
        yield _Way(judge, EXACT)
        if judge.kind == MAIN_JUDGE:
            yield from (_Way(judge, name) for name in applicable_states(config) if name != EXACT)


def _part(task: Task, begin: int, end: int | None) -> Task:
    return replace(task, questions=task.questions[begin:end])


def _settler(
    model: Model, tasks: Sequence[Task], layers: Sequence[int], target: float
) -> Callable[[_Way], _Way]:
    """Gives a way its smallest threshold that is consistent on ``tasks``."""
    full = answer_in_batches(model, tasks, None)
    prompts = [question.prompt for task in tasks for question in task.questions]
    seen = [record(model, p, answer, layers) for p, answer in zip(prompts, full, strict=True)]

    known: dict[str, float | None] = {}  # a judge's other state policies need about as much

    def settle(way: _Way) -> _Way:
        def replayed(threshold: float) -> float:
            return fmean(same_answer(one, way.judge, (threshold,) * len(layers)) for one in seen)

        def decoded(threshold: float) -> float:
            early = answer_in_batches(model, tasks, way.at(threshold))
            return consistency([g.ids for g in full], [g.ids for g in early]).answers

        consistency_at = replayed if way.state == EXACT else decoded
        kind = way.judge.kind
        known[kind] = smallest_consistent(consistency_at, target, guess=known.get(kind))
        return replace(way, threshold=known[kind])

    return settle


def _row(model: Model, way: _Way | None, answers: dict[str, list[Answer]]) -> Row:
    """The row of a way; None is the full model, as is a way without a safe threshold."""
    safe = way is not None and way.threshold is not None
    early = answers[way.name] if way is not None and safe else answers[FULL]
    policy = way.at(way.threshold) if way is not None and way.threshold is not None else None
    found = measure(answers[FULL], early, model.backbone.config, policy)
    return Row(
        model=model.name,
        judge="none" if way is None else way.judge.kind,
        state="none" if way is None else way.state,
        threshold=None if way is None else way.threshold,
        n=found.n,
        accuracy=found.metrics["em"],
        consistency=found.consistency.answers,
        layer_saving=found.layer_saving,
        flop_saving=found.flop_saving,
        speedup=found.speedup,
    )


def _interest(answer: Answer) -> tuple[float, int, int]:
    """Right answers first, then those whose tokens left at many different layers."""
    tokens = answer.generation.tokens
    right = answer.task.score(answer.generation.text, answer.question)["em"]
    return right, len({token.exit_layer for token in tokens}), len(tokens)
