"""Judges x exit layers x thresholds x state policies x trainings, each compared with the full model
on the same questions.

With the state ``recompute`` thresholds are replayed (see ``replay``): of answers that stay the full
model's all is known without decoding, and only the others are decoded. ``replayed`` of a point says
how many were not. Other states decode every question. Decoding is in batches; time is measured
afterwards, one text at a time, of the best points only (see ``timing``).

Everything goes to a directory row by row, so a sweep that was stopped at any moment goes on from
there, and one that is asked for more adds to what is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from dynexit.errors import UserError
from dynexit.evaluation import sweep_rows as rows
from dynexit.evaluation.candidates import Candidate, Wanted, gather
from dynexit.evaluation.counting import Counting
from dynexit.evaluation.demo import EXACT, MAIN_JUDGE, applicable_states
from dynexit.evaluation.fitting import fitted
from dynexit.evaluation.points import Point, make_point
from dynexit.evaluation.questions import Asked, Comparison
from dynexit.evaluation.replay import Replay, record, replays
from dynexit.evaluation.sweep_folder import SweepFolder, check, describe
from dynexit.evaluation.tasks.task import Task
from dynexit.evaluation.timing import time_best
from dynexit.exits.skipped import skipped_state
from dynexit.locks import claimed
from dynexit.models.loading import Model

T = TypeVar("T")
THRESHOLDS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999)


@dataclass(frozen=True)
class Grid:
    """Empty ``states`` are ``recompute`` for every judge, and for the mamba judge (the first one
    where there is none) all that the model can have. Of the best points time is measured on
    ``timed`` questions; 0 for none."""

    thresholds: tuple[float, ...] = THRESHOLDS
    states: tuple[str, ...] = ()
    timed: int = 20

    def __post_init__(self) -> None:
        if not self.thresholds or not all(0.0 <= t <= 1.0 for t in self.thresholds):
            raise UserError("--thresholds: give numbers from 0 to 1, such as 0.5,0.9,0.99")
        if self.timed < 0:
            raise UserError(f"--time {self.timed}: give a number of questions, or 0 for none")

    def ways(self, candidates: Sequence[Candidate], model: Model) -> list[Way]:
        """All that is to be compared, candidate by candidate."""
        config = model.backbone.config
        for state in self.states:
            skipped_state(state).check(config)
        kinds = [candidate.judge.kind for candidate in candidates]
        main = MAIN_JUDGE if MAIN_JUDGE in kinds else kinds[0]
        every = [EXACT, *(name for name in applicable_states(config) if name != EXACT)]
        return [
            Way(candidate, state, threshold)
            for candidate in candidates
            for state in self.states or (every if candidate.judge.kind == main else (EXACT,))
            for threshold in self.thresholds
        ]


@dataclass(frozen=True)
class Way:
    """A candidate with a state policy, at a threshold."""

    candidate: Candidate
    state: str
    threshold: float

    def ids(self, tasks: Iterable[str]) -> list[str]:
        setting = self.candidate.setting(self.state, self.threshold)
        return [setting.id(task) for task in tasks]


def run_sweep(
    model: Model,
    tasks: Mapping[str, Sequence[Task]],
    wanted: Wanted,
    grid: Grid,
    out: Path,
    counting: Counting,
    command: str = "",
) -> list[Point]:
    """All points in the directory ``out``, when those of the grid are among them.

    ``tasks`` by the name that was asked for; one that stands for several gets points of its own
    over all of them. ``command`` is noted as what made the sweep.
    """
    with claimed(out, within=True):
        check(out, model)
        fit = {name: [_decodable(model, task) for task in parts] for name, parts in tasks.items()}
        candidates = gather(model, wanted, out)
        ways = grid.ways(candidates, model)
        told = {
            "judges": [candidate.judge.kind for candidate in candidates],
            "states": [way.state for way in ways],
            "thresholds": grid.thresholds,
            "layers": [list(candidate.judge.layers) for candidate in candidates],
            "top_k": [one.top_k for one in candidates if one.top_k is not None],
            "seeds": [one.seed for one in candidates if one.seed is not None],
        }
        describe(out, model, fit, candidates, told, command)
        folder = SweepFolder(out)
        _Sweep(model, fit, folder, counting).run(ways)
        if grid.timed:
            time_best(model, fit, candidates, folder.points, grid.timed, counting)
        return [Point.from_json(row) for row in folder.points.rows]


def _decodable(model: Model, task: Task) -> Task:
    if task.weigh is not None:
        raise UserError(f"--tasks: {task.name} is multiple choice, where nothing is decoded")
    whole = fitted(model, task)
    if not whole.questions:
        raise UserError(f"--tasks: no question of {task.name} fits the context of {model.name}")
    return whole


class _Sweep:
    """A sweep under way: the questions with the full model's answers, and the rows so far."""

    def __init__(
        self,
        model: Model,
        tasks: Mapping[str, Sequence[Task]],
        folder: SweepFolder,
        counting: Counting,
    ) -> None:
        self._model = model
        self._folder = folder
        self._counting = counting
        parts = {part.name: part for group in tasks.values() for part in group}
        self._asked = Asked(model, list(parts.values()))
        # a name that stands for several comes after them
        members = {name: [part.name for part in group] for name, group in tasks.items()}
        self._groups = {name: [name] for name in parts} | members

    def run(self, ways: Sequence[Way]) -> None:
        """Add the rows that are missing."""
        todo = [
            way
            for way in ways
            if not all(id in self._folder.points for id in way.ids(self._groups))
        ]
        if not todo:
            return
        name = self._model.name
        with self._counting(f"{name}: full answers", self._asked.n) as tick:
            self._asked.answer(self._folder.full, tick)
        for group in _by_layers(todo):
            seen = self._replays([way.candidate for way in group])
            with self._counting(f"{name}: thresholds", len(group)) as tick:
                for way in group:
                    self._add(way, seen[way.candidate.name])
                    tick()

    def _replays(self, candidates: Sequence[Candidate]) -> dict[str, Replay]:
        """Of candidates with the same exits; their reliability is told by the way."""
        unique = list({candidate.name: candidate for candidate in candidates}.values())
        judges, first = [candidate.judge for candidate in unique], unique[0]
        with self._counting(f"{self._model.name}: reading answers", self._asked.n) as tick:
            recordings = (
                record(self._model, question.prompt, answer, first.judge.layers, first.translators)
                for question, answer in _counted(self._asked.pairs(), tick)
            )
            seen = replays(judges, recordings)
        for candidate, replay in zip(unique, seen, strict=True):
            judged = replay.judged()
            for task, members in self._groups.items():
                chosen = [judged[i] for i in self._asked.numbers(members)]
                self._folder.reliability.add(rows.reliability_rows(candidate, task, chosen))
        return {candidate.name: replay for candidate, replay in zip(unique, seen, strict=True)}

    def _add(self, way: Way, replay: Replay) -> None:
        candidate, state = way.candidate, way.state
        comparison = Comparison(self._model, self._asked, candidate.policy(state, way.threshold))
        compared = comparison.compare(replay if state == EXACT else None)
        setting = candidate.setting(state, way.threshold)
        points, examples = [], []
        for task, members in self._groups.items():
            chosen = [compared[i] for i in self._asked.numbers(members)]
            points.append(make_point(self._model.name, setting, task, chosen).as_json())
            examples.append(rows.example_row(setting, task, chosen))
        self._folder.examples.add(examples)
        self._folder.points.add(points)  # last: a way with points is done


def _by_layers(ways: Sequence[Way]) -> list[list[Way]]:
    """Ways whose judges see the same: equal exit layers and the same translators."""
    groups: dict[object, list[Way]] = {}
    for way in ways:
        judge, translators = way.candidate.judge, way.candidate.translators
        groups.setdefault((judge.layers, id(translators)), []).append(way)
    return list(groups.values())


def _counted(items: Iterable[T], tick: Callable[[], None]) -> Iterator[T]:
    for item in items:
        yield item
        tick()
