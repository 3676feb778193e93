"""The full model as the oracle: it reads and answers texts at full depth, and what it says next is
compared at every token with what each exit would have said.

States and ranks are taken while the model decodes, so no token is read twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dynexit.errors import UserError
from dynexit.models import Backbone
from dynexit.models.block import Block
from dynexit.models.layerwise import AllLayers, LayerAccess
from dynexit.training.corpus import TokenSample

MAX_RANK = 255
LOGITS = 1 << 24  # numbers in one readout of many tokens (64 MB in fp32)


@dataclass
class Reading:
    """What was seen of one text: ``states`` (pieces [exits, n, hidden], with the last layer's
    as one more where wished) of all tokens fed to the model, and ``ranks`` (pieces [exits, n]) of
    those that decoding judges, the last ones."""

    answer: list[int] = field(default_factory=list)
    states: list[Tensor] = field(default_factory=list)
    ranks: list[Tensor] = field(default_factory=list)


@dataclass(frozen=True)
class Oracle:
    """Answers greedily with at most ``longest`` tokens, until ``finished(answer)``; watches the
    exits after ``layers``, and keeps the last layer's states too if ``last`` is set. States are
    kept as ``dtype``. ``access`` gives the layers."""

    backbone: Backbone
    layers: tuple[int, ...]
    longest: int
    finished: Callable[[list[int]], bool]
    last: bool = False
    dtype: torch.dtype = torch.bfloat16
    access: LayerAccess | None = None

    @torch.inference_mode()
    def consult(self, batches: Sequence[Sequence[TokenSample]]) -> list[list[Reading]]:
        """Read every batch of samples, and answer those that have no answer. A layer runs for all
        batches before the next one does, so that it need be in memory once only."""
        access = self.access or AllLayers(self.backbone)
        consultations = [_Consultation(self, samples) for samples in batches]
        while going := [one for one in consultations if one.active]:
            steps = [_Step(one) for one in going]
            for index in range(self.backbone.depth):
                with access.layer(index) as block:
                    for step in steps:
                        step.run(index, block)
            for step in steps:
                step.finish()
        return [one.readings for one in consultations]


class _Consultation:
    """A batch on its way: ``active`` are the samples whose answers go on, and ``fed`` what the
    model reads of each next, from position ``starts`` on, the first ``unjudged`` of it unjudged."""

    def __init__(self, oracle: Oracle, samples: Sequence[TokenSample]) -> None:
        self.oracle, self.samples = oracle, samples
        self.readings = [Reading(list(s.answer or ())) for s in samples]
        # the last token of an answer is never fed to the model
        self.fed = [[*s.prompt, *(s.answer or ())[:-1]] for s in samples]
        self.unjudged = [len(sample.prompt) - 1 for sample in samples]
        self.starts = [0] * len(samples)
        self.active = list(range(len(samples)))
        room = [0 if sample.answer else oracle.longest for sample in samples]
        capacity = max(len(f) + more for f, more in zip(self.fed, room, strict=True))
        # what is read in one go has nothing to remember
        self.cache = oracle.backbone.new_cache(len(samples), capacity) if any(room) else None

    def hear(self, best: Sequence[int]) -> None:
        """Go on with the tokens that the full model gives to each active sample."""
        going = []
        for i, row in enumerate(self.active):
            if self.samples[row].answer is None and self._goes_on(row, best[i]):
                going.append(i)
        if self.cache is not None and going and len(going) < len(self.active):
            self.cache.keep(going)
        self.starts = [self.starts[i] + len(self.fed[i]) for i in going]
        self.fed, self.unjudged = [[best[i]] for i in going], [0] * len(going)
        self.active = [self.active[i] for i in going]

    def _goes_on(self, row: int, token: int) -> bool:
        answer = self.readings[row].answer
        answer.append(token)
        return len(answer) < self.oracle.longest and not self.oracle.finished(answer)


class _Step:
    """One call of the model for a batch, layer by layer; of every exit only its token is kept at
    once and the states in their stored form."""

    def __init__(self, one: _Consultation) -> None:
        self._one, backbone = one, one.oracle.backbone
        self._lengths = [len(ids) for ids in one.fed]
        self._place = backbone.place(one.starts, self._lengths)
        padded = [[*ids, *[0] * (self._place.width - len(ids))] for ids in one.fed]
        self._hidden = backbone.embed(torch.tensor(padded, device=backbone.device))
        columns = torch.arange(self._place.width, device=backbone.device)
        firsts = torch.tensor(one.unjudged, device=backbone.device)
        self._judged = self._place.valid & (columns >= firsts[:, None])
        self._states: list[Tensor] = []
        self._tops: list[Tensor] = []

    def run(self, index: int, block: Block) -> None:
        """Layer ``index`` (from 0), and the exit behind it."""
        one, oracle = self._one, self._one.oracle
        state = None if one.cache is None else one.cache.states[index]
        self._hidden = block(self._hidden, state, self._place)
        if index + 1 in oracle.layers:
            self._tops.append(top_tokens(oracle.backbone, self._hidden[self._judged]))
            self._keep()

    def finish(self) -> None:
        """Compare the exits with the full model, and note all in the readings."""
        one, oracle = self._one, self._one.oracle
        if oracle.last:
            self._keep()
        last = self._hidden[self._judged]
        ranks, best = ranks_among(oracle.backbone, self._tops, last)
        end, next_tokens = 0, []
        for i, row in enumerate(one.active):
            begin, end = end, end + self._lengths[i] - one.unjudged[i]
            states = torch.stack([kept[i, : self._lengths[i]] for kept in self._states])
            one.readings[row].states.append(states)
            one.readings[row].ranks.append(ranks[:, begin:end])
            next_tokens.append(int(best[end - 1]))
        one.hear(next_tokens)

    def _keep(self) -> None:
        kept = self._hidden.to(self._one.oracle.dtype)
        if not kept.isfinite().all():
            raise UserError(
                f"hidden states are beyond what {str(kept.dtype).removeprefix('torch.')} holds; "
                "store them as bf16 (--store-dtype), and load the model as bf16 or fp32 (--dtype)"
            )
        self._states.append(kept.cpu())


@torch.inference_mode()
def top_tokens(backbone: Backbone, hidden: Tensor) -> Tensor:
    """The most probable token [tokens] for states [tokens, hidden]."""
    parts = [backbone.readout(part).argmax(-1) for part in torch.split(hidden, _at_once(backbone))]
    return torch.cat(parts)


@torch.inference_mode()
def ranks_among(backbone: Backbone, tops: Sequence[Tensor], last: Tensor) -> tuple[Tensor, Tensor]:
    """For tokens [tokens] of each exit and states [tokens, hidden] after the last layer: the rank
    of each exit's token among the full model's logits, uint8 [exits, tokens], at most 255; and the
    full model's own tokens [tokens].

    Only the token that the full model gives has rank 0; one with an equal logit has rank 1.
    """
    ranks = torch.empty(len(tops), len(last), dtype=torch.uint8)
    own = torch.empty(len(last), dtype=torch.long)
    chunk = _at_once(backbone)
    for begin in range(0, len(last), chunk):
        at = slice(begin, begin + chunk)
        oracle = backbone.readout(last[at])
        best = oracle.argmax(-1)
        own[at] = best.cpu()
        for exit, top in enumerate(tops):
            above = (oracle > oracle.gather(1, top[at, None])).sum(-1)
            rank = torch.where(top[at] == best, 0, above.clamp(1, MAX_RANK))
            ranks[exit, at] = rank.to(torch.uint8).cpu()
    return ranks, own


def ranks_of(backbone: Backbone, exits: Sequence[Tensor], last: Tensor) -> tuple[Tensor, Tensor]:
    """``ranks_among`` for states [tokens, hidden] at each exit."""
    return ranks_among(backbone, [top_tokens(backbone, hidden) for hidden in exits], last)


def _at_once(backbone: Backbone) -> int:
    """Tokens that are read out together."""
    return max(1, LOGITS // backbone.config.vocab)
