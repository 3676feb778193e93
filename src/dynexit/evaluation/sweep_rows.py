"""The rows of a sweep beside its points: reliability of judges, and answers to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

import numpy as np

from dynexit.evaluation.candidates import Candidate
from dynexit.evaluation.points import Compared, Setting
from dynexit.evaluation.reliability import reliability
from dynexit.evaluation.replay import Flags, Numbers


def reliability_rows(
    candidate: Candidate, task: str, judged: Sequence[tuple[Numbers, Flags]]
) -> list[dict[str, Any]]:
    """One row an exit layer, over the tokens of the full model's answers, of which none left
    before (see ``Replay.judged``)."""
    scores = np.concatenate([scores for scores, _ in judged], axis=1)
    right = np.concatenate([right for _, right in judged], axis=1)
    rows = []
    for exit, layer in enumerate(candidate.judge.layers):
        found = reliability(scores[exit], right[exit])
        rows.append(
            {
                "judge": candidate.judge.kind,
                "top_k": candidate.top_k,
                "seed": candidate.seed,
                "layers": list(candidate.judge.layers),
                "task": task,
                "exit_layer": layer,
                "bins": [list(astuple(one)) for one in found.bins],
                "auroc": found.auroc,
                "ece": found.ece,
            }
        )
    return rows


def example_row(setting: Setting, task: str, compared: Sequence[Compared]) -> dict[str, Any]:
    """The answer that shows most: the full model's own, then with tokens from many layers."""
    shown = max(compared, key=_interest)
    early = shown.early.generation
    return {
        "id": setting.id(task),
        "judge": setting.judge,
        "top_k": setting.top_k,
        "seed": setting.seed,
        "layers": list(setting.layers),
        "state": setting.state,
        "threshold": setting.threshold,
        "task": task,
        "prompt": shown.early.question.prompt,
        "full_text": shown.full.generation.text,
        "text": early.text,
        "tokens": [
            {"text": token.text, "exit_layer": token.exit_layer, "score": token.score}
            for token in early.tokens
        ],
    }


def _interest(one: Compared) -> tuple[bool, int, int]:
    tokens = one.early.generation.tokens
    same = one.full.generation.ids == one.early.generation.ids
    return same, len({token.exit_layer for token in tokens}), len(tokens)
