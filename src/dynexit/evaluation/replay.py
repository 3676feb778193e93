"""Trying thresholds without decoding again, where skipped layers are recomputed.

With exact states the hidden state of a token at an exit is the full model's, as long as the tokens
before it are. So one pass over the full model's answer gives all that a judge would see, and
whether the answer would have been the same can be told for any threshold: it is, if at every token
the exit taken has the full model's token as its best. (Greedy decoding without repetition penalty.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dynexit.exits.judge import Evidence, Judge, JudgeState
from dynexit.inference.generate import encode_prompt
from dynexit.inference.generation import Generation
from dynexit.models.loading import Model
from dynexit.models.placement import Placement


@dataclass(frozen=True)
class Recording:
    """An answer of n tokens of the full model as seen at the exits.

    ``prompt`` [exits, T, hidden] are the states of the prompt without its last token, ``hidden``
    [exits, n, hidden] and ``logits`` [exits, n, vocab] those of the steps that decoding judges,
    ``right`` says where an exit's best token is the full model's.
    """

    place: Placement | None
    prompt: Tensor
    hidden: Tensor
    logits: Tensor
    right: list[list[bool]]


@torch.inference_mode()
def record(model: Model, prompt: str, answer: Generation, layers: Sequence[int]) -> Recording:
    """Read a prompt and the full model's answer to it once, keeping what exits see."""
    backbone, ids = model.backbone, encode_prompt(model, prompt)
    # the last token of the answer is never fed to the model
    text = [*ids, *answer.ids[:-1]]
    place = backbone.place([0], [len(text)])
    hidden, start, seen = backbone.embed(torch.tensor([text], device=backbone.device)), 0, []
    for layer in layers:
        hidden, start = backbone.run(hidden, None, start, layer, place), layer
        seen.append(hidden[0])
    states, first = torch.stack(seen), len(ids) - 1
    logits = backbone.readout(states[:, first:])
    target = torch.tensor(answer.ids, device=backbone.device)
    return Recording(
        place=backbone.place([0], [first]) if first else None,
        prompt=states[:, :first],
        hidden=states[:, first:],
        logits=logits,
        right=(logits.argmax(-1) == target).tolist(),
    )


@torch.inference_mode()
def same_answer(recording: Recording, judge: Judge, thresholds: Sequence[float]) -> bool:
    """Whether decoding with these thresholds, one an exit, and exact states gives the same."""
    state, exits = judge.new_state(1), range(len(judge.layers))
    if recording.place is not None:
        for exit in exits:
            judge.observe(exit, recording.prompt[exit][None], state, recording.place)
    for step in range(recording.hidden.shape[1]):
        taken = next(
            (e for e in exits if _score(recording, judge, e, step, state) >= thresholds[e]), None
        )
        if taken is not None and not recording.right[taken][step]:
            return False
    return True


def _score(recording: Recording, judge: Judge, exit: int, step: int, state: JudgeState) -> float:
    """The judge's score at an exit, asked in the order in which decoding would."""
    hidden = recording.hidden[exit, step][None]
    evidence = Evidence(hidden, lambda: recording.logits[exit, step][None])
    return float(judge.score(exit, evidence, state, None))
