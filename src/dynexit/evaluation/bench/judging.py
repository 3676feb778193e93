"""Judges for benchmarks by name, those that read out the vocabulary with and without a screen."""

from __future__ import annotations

from collections.abc import Sequence

from dynexit.errors import UserError
from dynexit.evaluation.bench.subject import Subject
from dynexit.exits.judge import Judge
from dynexit.exits.judges import JUDGES, build_judge
from dynexit.exits.screened import behind_screen
from dynexit.models.config import BackboneConfig

SCREENED = "+screen"
_READERS = ("top-probability", "margin", "entropy", "patience")
NAMES: tuple[str, ...] = (*JUDGES, *(name + SCREENED for name in _READERS))


def judges_of(wished: Sequence[str] | None, config: BackboneConfig) -> tuple[str, ...]:
    """Names of judges: all that look at something and suit the model, where none is wished for."""
    if wished is None:
        screens = config.quantization is None or config.tied  # a screen is made of plain weights
        return tuple(n for n in NAMES if n != "fixed" and (screens or not n.endswith(SCREENED)))
    chosen = tuple(dict.fromkeys(name.replace("_", "-") for name in wished))
    for name in chosen:
        if name not in NAMES:
            raise UserError(f"--judge {name!r} is not known; choose from {', '.join(NAMES)}")
    return chosen


def judge_of(subject: Subject, name: str, layers: Sequence[int]) -> Judge:
    """The judge of that name for exits after ``layers``; a trained kind has random weights, which
    cost the same."""
    hidden = subject.config.hidden
    judge = build_judge(name.removesuffix(SCREENED), layers, hidden, subject.backbone.device)
    return behind_screen(judge, subject.screen, hidden) if name.endswith(SCREENED) else judge
