"""The full model as the oracle: it reads and answers texts at full depth, and what it says next is
compared at every token with what each exit would have said.

States and ranks are taken while the model decodes, so no token is read twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dynexit.models import Backbone, Cache, Placement
from dynexit.training.corpus import TokenSample

MAX_RANK = 255
_LOGITS = 1 << 24  # numbers in one readout of many tokens (64 MB in fp32)


@dataclass
class Reading:
    """What was seen of one text: ``states`` (pieces [exits, n, hidden], bf16, with the last layer's
    as one more where wished) of all tokens fed to the model, and ``ranks`` (pieces [exits, n]) of
    those that decoding judges, the last ones."""

    answer: list[int] = field(default_factory=list)
    states: list[Tensor] = field(default_factory=list)
    ranks: list[Tensor] = field(default_factory=list)


@dataclass(frozen=True)
class Oracle:
    """Answers greedily with at most ``longest`` tokens, until ``finished(answer)``; watches the
    exits after ``layers``, and keeps the last layer's states too if ``last`` is set."""

    backbone: Backbone
    layers: tuple[int, ...]
    longest: int
    finished: Callable[[list[int]], bool]
    last: bool = False

    @torch.inference_mode()
    def consult(self, samples: Sequence[TokenSample]) -> list[Reading]:
        """Read a batch of samples together, and answer those that have no answer."""
        readings = [Reading(list(s.answer or ())) for s in samples]
        # the last token of an answer is never fed to the model
        fed = [[*s.prompt, *(s.answer or ())[:-1]] for s in samples]
        unjudged = [len(sample.prompt) - 1 for sample in samples]
        room = [0 if sample.answer else self.longest for sample in samples]
        capacity = max(len(f) + more for f, more in zip(fed, room, strict=True))
        cache = self.backbone.new_cache(len(samples), capacity)
        active, starts = list(range(len(samples))), [0] * len(samples)
        while active:
            best = self._feed(fed, starts, unjudged, cache, [readings[row] for row in active])
            going = []
            for i, row in enumerate(active):
                if samples[row].answer is None and self._goes_on(readings[row].answer, best[i]):
                    going.append(i)
            if going and len(going) < len(active):
                cache.keep(going)
            starts = [starts[i] + len(fed[i]) for i in going]
            fed, unjudged = [[best[i]] for i in going], [0] * len(going)
            active = [active[i] for i in going]
        return readings

    def _goes_on(self, answer: list[int], token: int) -> bool:
        answer.append(token)
        return len(answer) < self.longest and not self.finished(answer)

    def _feed(
        self,
        fed: Sequence[Sequence[int]],
        starts: Sequence[int],
        unjudged: Sequence[int],
        cache: Cache,
        readings: Sequence[Reading],
    ) -> list[int]:
        """Feed tokens to every row, note what is seen, and give each row's next token."""
        lengths = [len(ids) for ids in fed]
        place = self.backbone.place(starts, lengths)
        padded = [[*ids, *[0] * (place.width - len(ids))] for ids in fed]
        states = self._states(torch.tensor(padded, device=self.backbone.device), cache, place)
        firsts = torch.tensor(unjudged, device=self.backbone.device)
        judged = place.valid & (torch.arange(place.width, device=firsts.device) >= firsts[:, None])
        ranks, best = ranks_of(self.backbone, [h[judged] for h in states[:-1]], states[-1][judged])
        kept = torch.stack([h.to(torch.bfloat16) for h in states[: len(states) - (not self.last)]])
        kept = kept.cpu()
        end, next_tokens = 0, []
        for row, reading in enumerate(readings):
            begin, end = end, end + lengths[row] - unjudged[row]
            reading.states.append(kept[:, row, : lengths[row]])
            reading.ranks.append(ranks[:, begin:end])
            next_tokens.append(int(best[end - 1]))
        return next_tokens

    def _states(self, ids: Tensor, cache: Cache, place: Placement) -> list[Tensor]:
        """States [B, T, hidden] after every exit layer, and after the last one."""
        hidden, start, states = self.backbone.embed(ids), 0, []
        for layer in (*self.layers, self.backbone.depth):
            hidden, start = self.backbone.run(hidden, cache, start, layer, place), layer
            states.append(hidden)
        return states


@torch.inference_mode()
def ranks_of(backbone: Backbone, exits: Sequence[Tensor], last: Tensor) -> tuple[Tensor, Tensor]:
    """For states [tokens, hidden] at each exit and after the last layer: the rank of each exit's
    top token among the full model's logits, uint8 [exits, tokens], at most 255; and the full
    model's own tokens [tokens].

    Only the token that the full model gives has rank 0; one with an equal logit has rank 1.
    """
    ranks = torch.empty(len(exits), len(last), dtype=torch.uint8)
    own = torch.empty(len(last), dtype=torch.long)
    chunk = max(1, _LOGITS // backbone.config.vocab)
    for begin in range(0, len(last), chunk):
        at = slice(begin, begin + chunk)
        oracle = backbone.readout(last[at])
        best = oracle.argmax(-1)
        own[at] = best.cpu()
        for exit, hidden in enumerate(exits):
            top = backbone.readout(hidden[at]).argmax(-1)
            above = (oracle > oracle.gather(1, top[:, None])).sum(-1)
            rank = torch.where(top == best, 0, above.clamp(1, MAX_RANK))
            ranks[exit, at] = rank.to(torch.uint8).cpu()
    return ranks, own
