"""Which questions judges are trained on, and which are asked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dynexit.errors import UserError
from dynexit.evaluation.independent import data_digest
from dynexit.evaluation.tasks.task import Question, Task
from dynexit.training.corpus import Sample

TRAINING_SHARE = 1 / 3
_TURN = "\n\nQ: "  # what stands between the story of CoQA and its first question


@dataclass(frozen=True)
class Division:
    """``training`` are prompts whose group is their story, or the question itself; ``asked`` the
    tasks by name, as a sweep takes them."""

    training: tuple[Sample, ...]
    asked: Mapping[str, Sequence[Task]]

    @property
    def digests(self) -> dict[str, str]:
        """What tells one division from another."""
        prompts = json.dumps([[sample.prompt, sample.group] for sample in self.training])
        asked = [part for parts in self.asked.values() for part in parts]
        return {
            "training": hashlib.sha256(prompts.encode()).hexdigest()[:32],
            "asked": data_digest(asked),
        }


def divide(
    tasks: Mapping[str, Sequence[Task]], limit: int | None, train_limit: int | None
) -> Division:
    """A third of the stories (CoQA) or questions (else) for training, the others to be asked.

    The side is decided by a hash of the story or question alone, so that it depends on no order
    and no limit, and a question that stands twice is on one side. At most ``train_limit`` prompts
    of each task are trained on and at most ``limit`` asked (None: all), chosen by a hash too:
    files are sorted by topic, and the first turns of CoQA would be those of a few stories.
    """
    groups: dict[str, int] = {}
    training: list[Sample] = []
    asked: dict[str, Sequence[Task]] = {}
    for name, parts in tasks.items():
        kept = []
        for part in parts:
            learnt, left = _sides(part)
            for question in learnt[:train_limit]:
                group = groups.setdefault(_origin(part.name, question), len(groups))
                training.append(Sample(question.prompt, group=group))
            kept.append(replace(part, questions=tuple(left[:limit])))
        asked[name] = kept
    if len(groups) < 2:
        raise UserError("--train-limit: judges need prompts of at least two questions or stories")
    return Division(tuple(training), asked)


def _sides(task: Task) -> tuple[list[Question], list[Question]]:
    """The questions for training and those to ask, each in the order of their hashes."""
    training: list[Question] = []
    asked: list[Question] = []
    for question in sorted(task.questions, key=lambda q: _hash("order", q.prompt)):
        origin = _origin(task.name, question)
        (training if _hash("side", origin) < TRAINING_SHARE else asked).append(question)
    if not training or not asked:
        raise UserError(
            f"--data-dir: {len(task.questions)} questions of {task.name} are too few to train on "
            "some and ask others; give the whole official file"
        )
    return training, asked


def _origin(task: str, question: Question) -> str:
    """What must be on one side: all turns about a story, or a question."""
    return question.prompt.partition(_TURN)[0] if task == "coqa" else question.prompt


def _hash(purpose: str, text: str) -> float:
    """A number in [0, 1) that depends on nothing else."""
    digest = hashlib.sha256(f"{purpose}: {text}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
