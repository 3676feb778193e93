"""Trying thresholds without decoding again, where skipped layers are recomputed.

With exact states the hidden state of a token at an exit is the full model's, as long as the tokens
before it are. So one pass over the full model's answer gives all that a judge would see, and for
any threshold tells at which exit each token leaves, with which score, and whether it is still the
full model's token. Up to the first one that is not, and that one included, this is what decoding
does; where there is none, it is all of it: text, exit layers, scores, and so metrics and costs.

That holds for greedy decoding without repetition penalty, as far as numbers do: matrix products of
one token and of many differ in their last bits. In fp32 no decision was seen to change by that; in
bf16 a score that close to its threshold may fall to the other side, as it may between decoding one
text and a batch of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynexit.evaluation.replayed import Replayed
from dynexit.exits.judge import Evidence, Judge, JudgeState
from dynexit.exits.judges.trained import TrainedJudge
from dynexit.exits.judges.untrained import UntrainedJudge
from dynexit.exits.policy import Constant, Schedule
from dynexit.exits.translator import Translators
from dynexit.inference.generation import Generation
from dynexit.inference.prompts import encode_prompt
from dynexit.models.loading import Model
from dynexit.models.placement import Placement

Flags = NDArray[np.bool_]
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Recording:
    """An answer of n tokens of the full model as seen at the exits.

    ``prompt`` [exits, T, hidden] are the states of the prompt without its last token, ``hidden``
    [exits, n, hidden] those of the steps that decoding judges, ``right`` [exits][n] says where an
    exit's best token is the full model's, ``readout`` gives the logits of states at an exit. Many
    recordings of a large model are large: see ``replays``, which needs one at a time.
    """

    answer: Generation
    place: Placement | None
    prompt: Tensor
    hidden: Tensor
    right: list[list[bool]]
    readout: Callable[[int, Tensor], Tensor]


@torch.inference_mode()
def record(
    model: Model,
    prompt: str,
    answer: Generation,
    layers: Sequence[int],
    translators: Translators | None = None,
) -> Recording:
    """Read a prompt and the full model's answer to it once, keeping what exits after ``layers``
    see."""
    backbone, ids = model.backbone, encode_prompt(model, prompt)
    # the last token of the answer is never fed to the model
    text = [*ids, *answer.ids[:-1]]
    place = backbone.place([0], [len(text)])
    hidden, start, seen = backbone.embed(torch.tensor([text], device=backbone.device)), 0, []
    for layer in layers:
        hidden, start = backbone.run(hidden, None, start, layer, place), layer
        seen.append(hidden[0])
    states, first = torch.stack(seen), len(ids) - 1

    def readout(exit: int, hidden: Tensor) -> Tensor:
        return backbone.readout(hidden if translators is None else translators.apply(exit, hidden))

    target = torch.tensor(answer.ids, device=backbone.device)
    judged = states[:, first:]
    return Recording(
        answer=answer,
        place=backbone.place([0], [first]) if first else None,
        prompt=states[:, :first],
        hidden=judged,
        right=[(readout(e, h).argmax(-1) == target).tolist() for e, h in enumerate(judged)],
        readout=readout,
    )


@torch.inference_mode()
def same_answer(recording: Recording, judge: Judge, thresholds: Sequence[float]) -> bool:
    """Whether decoding with these thresholds, one an exit, and exact states gives the same."""
    return replays([judge], [recording])[0].decode(thresholds)[0].same


def replays(judges: Sequence[Judge], recordings: Iterable[Recording]) -> list[Replay]:
    """For each judge, all recordings as it sees them. The judges have the exits that were recorded.

    ``recordings`` may be made one by one as they are asked for. Of each are kept an exit's scores,
    or for a judge with a memory its state after the prompt and the hidden states of the answer.
    """
    views: list[list[_View]] = [[] for _ in judges]
    for recording in recordings:
        for judge, seen in zip(judges, views, strict=True):
            seen.append(_view(judge, recording))
    return [Replay(judge, seen) for judge, seen in zip(judges, views, strict=True)]


@dataclass(frozen=True)
class _View:
    """A recording as one judge sees it: ``scores`` [exits, n], or what it takes to ask for them."""

    answer: Generation
    right: Flags
    readout: Callable[[int, Tensor], Tensor]
    scores: Numbers | None = None
    memory: JudgeState | None = None
    hidden: Tensor | None = None


@torch.inference_mode()
def _view(judge: Judge, recording: Recording) -> _View:
    right, states = np.array(recording.right), recording.hidden
    if _remembers(judge):
        memory = judge.new_state(1)
        if recording.place is not None:
            for exit, seen in enumerate(recording.prompt):
                judge.observe(exit, seen[None], memory, recording.place)
        # a copy of its own, so that the rest of the recording can go
        return _View(
            recording.answer, right, recording.readout, memory=memory, hidden=states.clone()
        )
    state = judge.new_state(states.shape[1])  # tokens are rows: none knows of another
    scores = [
        judge.score(exit, Evidence(exit, hidden, recording.readout), state, None)
        for exit, hidden in enumerate(states)
    ]
    found = torch.stack(scores).double().cpu().numpy()
    return _View(recording.answer, right, recording.readout, scores=found)


def _remembers(judge: Judge) -> bool:
    """Whether scores depend on the tokens before, and so on which of them came to an exit."""
    if isinstance(judge, TrainedJudge):
        return judge.recurrent
    return not isinstance(judge, UntrainedJudge)


class Replay:
    """Answers of the full model as one judge sees them; made by ``replays``.

    Tokens of all answers stand one after another. A judge with a memory is asked anew for every
    thresholds, of all answers at once, as its scores depend on which tokens came to an exit.
    """

    def __init__(self, judge: Judge, views: Sequence[_View]) -> None:
        self.judge = judge
        self._answers = [view.answer for view in views]
        self._lengths = np.array([len(view.answer.tokens) for view in views], dtype=np.int64)
        self._starts = self._lengths.cumsum() - self._lengths
        none = np.empty((len(judge.layers), 0))  # where there are no answers
        self._right: Flags = np.concatenate([none > 0, *(view.right for view in views)], axis=1)
        self._views = views
        self._scores: Numbers | None = None
        if all(view.scores is not None for view in views):
            scores = [view.scores for view in views if view.scores is not None]
            self._scores = np.concatenate([none, *scores], axis=1)

    def decode(
        self, thresholds: Sequence[float], schedule: Schedule | None = None
    ) -> list[Replayed]:
        """What decoding with these thresholds, one an exit, does with each answer."""
        limits = self._limits(thresholds, schedule or Constant())
        scores, read = self._asked(limits) if self._scores is None else (self._scores, None)
        leaves = _leaves(scores, limits)
        left: Flags = np.logical_or.reduce(leaves, axis=0)
        taken = leaves.argmax(0)
        tokens = np.arange(len(taken))
        layers = np.array(self.judge.layers)[taken]
        agrees = self._right[taken, tokens] | ~left
        visited = np.arange(len(scores))[:, None] <= np.where(left, taken, len(scores))
        if read is None:  # by every check, or by none
            read = (visited & self.judge.needs_logits()).astype(np.int64)
        idle = read.sum(0) - (left & (read[taken, tokens] > 0))
        found, invalid = _told(scores, visited)
        return [
            Replayed(
                answer,
                tuple(np.where(left[at], layers[at], answer.layers).tolist()),
                tuple(found[at]),
                tuple(agrees[at].tolist()),
                tuple(idle[at].tolist()),
                tuple(invalid[at].tolist()),
            )
            for answer, at in zip(self._answers, self._spans(), strict=True)
        ]

    def judged(self) -> list[tuple[Numbers, Flags]]:
        """Of each answer, the scores [exits, n] where no token leaves, and where the exit's best
        token is the full model's [exits, n]."""
        scores = self._scores
        if scores is None:
            scores, _ = self._asked(np.full(self._right.shape, np.inf), exactly=True)
        return [(scores[:, at], self._right[:, at]) for at in self._spans()]

    def _spans(self) -> list[slice]:
        ends = (self._starts + self._lengths).tolist()
        return [slice(a, b) for a, b in zip(self._starts.tolist(), ends, strict=True)]

    def _limits(self, thresholds: Sequence[float], schedule: Schedule) -> Numbers:
        """The threshold of every token at every exit [exits, tokens]."""
        longest = int(self._lengths.max(initial=0))
        steps = [[schedule.threshold(base, at) for at in range(longest)] for base in thresholds]
        table = np.array(steps, dtype=np.float64).reshape(len(thresholds), longest)
        positions = np.arange(self._right.shape[1]) - self._starts.repeat(self._lengths)
        return table[:, positions]

    @torch.inference_mode()
    def _asked(self, limits: Numbers, exactly: bool = False) -> tuple[Numbers, NDArray[np.int64]]:
        """Scores [exits, tokens], NaN where a token did not come to an exit, and how often the
        vocabulary was read out; ``exactly``, also where a score can be told to be below its limit
        without."""
        scores, read = np.full(limits.shape, np.nan), np.zeros(limits.shape, dtype=np.int64)
        memory = _stacked([view.memory for view in self._views if view.memory is not None])
        for step in range(int(self._lengths.max(initial=0))):
            rows = np.flatnonzero(self._lengths > step)
            for exit in range(len(limits)):
                at = self._starts[rows] + step
                least = 0.0 if exactly else float(limits[exit, at].min())
                scores[exit, at], read[exit, at] = self._ask(exit, step, rows, memory, least)
                rows = rows[~_leaves(scores[exit, at], limits[exit, at])]
                if not len(rows):
                    break
        return scores, read

    def _ask(
        self, exit: int, step: int, rows: NDArray[np.int64], memory: JudgeState, least: float
    ) -> tuple[Numbers, list[int]]:
        views = [self._views[row] for row in rows.tolist()]
        states = torch.stack([view.hidden[exit, step] for view in views if view.hidden is not None])
        index = torch.from_numpy(rows).to(states.device)
        evidence = Evidence(exit, states, views[0].readout, least)
        scores = self.judge.score(exit, evidence, memory, index)
        found: Numbers = scores.double().cpu().numpy()
        return found, evidence.readouts


def _leaves(scores: Numbers, limits: Numbers) -> Flags:
    """Where a score lets a token leave. One that is no number lets none, as in decoding."""
    return (limits <= scores) & (scores < np.inf)


def _told(scores: Numbers, visited: Flags) -> tuple[list[float | None], NDArray[np.int64]]:
    """Of each token the last score that is a number at the exits it came to [exits, tokens], None
    where there is none, and how many were none."""
    valid = visited & np.isfinite(scores)
    last = len(scores) - 1 - valid[::-1].argmax(0)
    found = scores[last, np.arange(scores.shape[1])].tolist()
    known = valid.sum(0).tolist()
    told = [score if n else None for score, n in zip(found, known, strict=True)]
    return told, (visited & ~valid).sum(0)


def _stacked(memories: Sequence[JudgeState]) -> JudgeState:
    """States of one row each as one state with all rows, in memory of its own."""
    names = memories[0].tensors
    return JudgeState({n: torch.cat([memory.tensors[n] for memory in memories]) for n in names})
