"""Answers with the full model and with exits, side by side in one run.

Every question, or every batch of questions of about the same length, is answered by all ways of
decoding before the next one is begun, each time in another order, so that whatever else the machine
does falls on all of them alike; its prompt is read once for all. One text at a time is how a device
of one user decodes, a batch is how a server does; speed is that of the decoding steps, without the
prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby

from dynexit.errors import UserError
from dynexit.evaluation.fitting import answer_room, fit_prompt
from dynexit.evaluation.tasks.task import Question, Task
from dynexit.evaluation.ways import Way, decoding, policy_of
from dynexit.inference.generation import Generation
from dynexit.inference.prompts import encode_prompt
from dynexit.inference.reading import Reading, read
from dynexit.inference.settings import GenerationSettings
from dynexit.models.loading import Model
from dynexit.workers import ALONE, Workers

FULL = "full"
_LEAST_CHARACTERS = 2  # of a token in running text, for planning memory


@dataclass(frozen=True)
class Answer:
    """One way's answer to a question of a task. In a batch, its share of the decoding time is
    that of its tokens."""

    task: Task
    question: Question
    generation: Generation

    @property
    def scores(self) -> Mapping[str, float]:
        """The task's metrics of this answer."""
        return self.task.score(self.generation.text, self.question)


def settings_for(task: Task) -> GenerationSettings:
    """Greedy decoding to the task's end of an answer."""
    return GenerationSettings(max_new_tokens=task.max_new_tokens, stop=task.stop)


def answer_all(
    model: Model,
    tasks: Sequence[Task],
    ways: Mapping[str, Way],
    tick: Callable[[], None] = lambda: None,
    batch: int = 1,
    workers: Workers = ALONE,
) -> dict[str, list[Answer]]:
    """The answers of the full model, under ``FULL``, and of each way, in order of questions.

    ``batch`` questions are decoded at once. What drafting learns goes on through the questions of
    a task. ``workers`` share the batches, and each has all answers in the end. ``tick`` is called
    after each question.
    """
    ways = {FULL: None, **ways}
    runs = [_Run(model, task, ways) for task in tasks]
    if runs and (first := next((run for run in runs if run.task.questions), None)):
        first.warm_up()
    number = 0
    for run in runs:
        for turn in run.turns(batch):
            for group in workers.share(turn):
                run.answer(group, number)
                number += 1
                for _ in group:
                    tick()
            for _ in range(run.exchange(turn, workers)):
                tick()
    return {name: [answer for run in runs for answer in run.answers(name)] for name in ways}


def answer_in_batches(
    model: Model, tasks: Sequence[Task], way: Way, size: int = 32
) -> list[Generation]:
    """Answers where only the text counts and not the time: many questions at once."""
    found: list[Generation] = []
    for task in tasks:
        run = _Run(model, task, {FULL: way})
        for turn in run.turns(size):
            for group in turn:
                run.answer(group, 0)
        found += [answer.generation for answer in run.answers(FULL)]
    return found


class _Run:
    """The questions of one task and what every way has answered so far."""

    def __init__(self, model: Model, task: Task, ways: Mapping[str, Way]) -> None:
        if task.weigh is not None:
            raise UserError(
                f"task {task.name} is multiple choice, scored by likelihood; nothing is decoded"
            )
        self.task = task
        self._model = model
        self._policies = [policy_of(way) for way in ways.values()]
        self._ways = {name: decoding(model, way) for name, way in ways.items()}
        self._made: dict[str, dict[int, Generation]] = {name: {} for name in ways}

    def turns(self, size: int) -> Iterator[list[list[int]]]:
        """Numbers of questions to decode together, at most ``size`` and no more than memory should
        hold. Where the model's own answers are part of the prompt, there is a list of such groups
        for every turn, one after the other; else one list of all."""
        questions = self.task.questions
        longest = max((len(question.prompt) for question in questions), default=0)
        tokens = longest // _LEAST_CHARACTERS + self.task.max_new_tokens
        size = min(size, self._model.backbone.rows_within(tokens))
        order = sorted(
            range(len(questions)),
            key=lambda i: (len(questions[i].pieces), len(questions[i].prompt)),
        )
        for _, turn in groupby(order, key=lambda i: len(questions[i].pieces)):
            numbers = list(turn)
            yield [numbers[i : i + size] for i in range(0, len(numbers), size)]

    def warm_up(self) -> None:
        """The first calls pay for memory, threads and pages of weights that later ones have."""
        group = next(self.turns(1))[0]
        for name in self._ways:
            self._decode(group, name)

    def answer(self, group: Sequence[int], turn: int) -> None:
        """Answer these questions in every way, beginning with another one each ``turn``."""
        names = list(self._ways)
        first = turn % len(names)
        reading = self._read(group)
        for name in names[first:] + names[:first]:
            made = self._decode(group, name, reading)
            self._made[name].update(zip(group, made, strict=True))

    def exchange(self, turn: Sequence[Sequence[int]], workers: Workers) -> int:
        """Give the other ``workers`` what this one answered of a turn, and take theirs; how many
        questions these are."""
        if workers.count == 1:
            return 0
        mine = [i for group in workers.share(turn) for i in group]
        rows = [(name, i, asdict(made[i])) for name, made in self._made.items() for i in mine]
        for name, number, row in workers.all_rows(rows):
            self._made[name].setdefault(number, Generation.from_json(row))
        return sum(map(len, turn)) - len(mine)

    def answers(self, name: str) -> list[Answer]:
        """One way's answers in order of questions."""
        made = self._made[name]
        return [Answer(self.task, q, made[i]) for i, q in enumerate(self.task.questions)]

    def _read(self, group: Sequence[int]) -> Reading | None:
        """Their prompts read for all ways, where all of them are asked in the same words."""
        questions = [self.task.questions[i] for i in group]
        if len(self._ways) < 2 or any(len(question.pieces) > 1 for question in questions):
            return None
        prompts = [encode_prompt(self._model, question.prompt)[:-1] for question in questions]
        chunk = settings_for(self.task).prefill_chunk
        return read(self._model.backbone, prompts, self._policies, chunk)

    def _decode(
        self, group: Sequence[int], name: str, reading: Reading | None = None
    ) -> list[Generation]:
        prompts = [self._prompt(i, name) for i in group]
        made = self._ways[name](prompts, settings_for(self.task), reading)
        # each has the time until it ended: make the times add up to that of the batch
        seconds, tokens = max(g.seconds for g in made), sum(len(g.tokens) for g in made)
        return [
            replace(
                g,
                seconds=seconds * len(g.tokens) / tokens,
                prefill_seconds=g.prefill_seconds / len(made),
            )
            for g in made
        ]

    def _prompt(self, number: int, name: str) -> str:
        question = self.task.questions[number]
        if len(question.pieces) < 2:
            return question.prompt
        turns, questions = len(question.pieces) - 1, self.task.questions
        if number < turns or questions[number - 1].pieces != question.pieces[:-1]:
            raise UserError(
                f"task {self.task.name}: a turn in the model's own words needs the turns before it"
            )
        said = [self._made[name][i].text.strip() for i in range(number - turns, number)]
        first, *rest = question.pieces
        whole = first + "".join(f" {a}{piece}" for a, piece in zip(said, rest, strict=True))
        room = answer_room(self._model, self.task)
        return fit_prompt(self._model, whole, room) or question.prompt
