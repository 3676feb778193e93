"""One step of decoding at a time, each row as deep as its judge wants.

The decoder owns the cache, the judge's memory and the state policy of a batch of texts. Rows that
left are not computed in deeper layers; rows that are finished are dropped with ``keep``, or stay as
free slots that ``clear`` makes ready for other texts.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from dynexit.errors import UserError
from dynexit.exits.judge import Evidence
from dynexit.exits.policy import ExitPolicy
from dynexit.inference.cuda_graphs import segments
from dynexit.inference.step import Front, Outcome, Step
from dynexit.models.backbone import Backbone
from dynexit.models.layers import Layers
from dynexit.models.placement import Placement


class Decoder:
    """Decodes ``rows`` texts of at most ``capacity`` tokens, with exits where a policy is given."""

    def __init__(
        self, backbone: Backbone, rows: int, capacity: int, policy: ExitPolicy | None = None
    ) -> None:
        self.backbone = backbone
        self.policy = policy
        self.cache = backbone.new_cache(rows, capacity)
        self._layers = self._runner()
        self.lengths = [0] * rows
        self._answered = [0] * rows
        self._thresholds: list[tuple[float, ...] | None] = [None] * rows
        if policy is not None:
            if policy.layers[-1] >= backbone.depth:
                raise UserError(
                    f"exit layer {policy.layers[-1]} is outside the model of "
                    f"{backbone.depth} layers"
                )
            policy.state.check(backbone.config)
            self._session = policy.state.session(self._layers, self.cache)
            self._judging = policy.judge.new_state(rows)

    def _runner(self) -> Layers:
        """What runs the layers for the tokens of an answer."""
        return segments(self.backbone, self.cache)

    @torch.inference_mode()
    def prefill(
        self,
        prompts: Sequence[Sequence[int]],
        chunk: int = 512,
        rows: Sequence[int] | None = None,
    ) -> None:
        """Read tokens of these rows (None: of all) at full depth, ``chunk`` columns at a time."""
        which = range(self.cache.rows) if rows is None else rows
        for begin in range(0, max(map(len, prompts)), chunk):
            parts = {
                row: list(prompt[begin : begin + chunk])
                for row, prompt in zip(which, prompts, strict=True)
                if len(prompt) > begin
            }
            lengths = [len(part) for part in parts.values()]
            place = self._place(list(parts), lengths)
            self._read(self._padded(list(parts.values()), place.width), place)
            for row, part in parts.items():
                self.lengths[row] += len(part)

    def _padded(self, parts: list[list[int]], width: int) -> Tensor:
        rows = [part + [0] * (width - len(part)) for part in parts]
        return torch.tensor(rows, device=self.backbone.device)

    def observe(self, place: Placement, states: Mapping[int, Tensor]) -> None:
        """Show the judge tokens of prompts by their states [B, T, hidden] after its exit layers."""
        if self.policy is not None:
            for exit, layer in enumerate(self.policy.layers):
                self.policy.judge.observe(exit, states[layer], self._judging, place)

    def _read(self, ids: Tensor, place: Placement) -> None:
        hidden, start = self.backbone.embed(ids), 0
        if self.policy is not None:
            for exit, layer in enumerate(self.policy.layers):
                hidden = self.backbone.run(hidden, self.cache, start, layer, place)
                self.policy.judge.observe(exit, hidden, self._judging, place)
                start = layer
        self.backbone.run(hidden, self.cache, start, self.backbone.depth, place)

    @torch.inference_mode()
    def step(
        self,
        ids: Sequence[int],
        rows: Sequence[int] | None = None,
        deep: Collection[int] = (),
    ) -> Step:
        """Feed one token to each of these rows, ascending (None: all), and give back the logits of
        the next; a ``Step`` goes by the order of ``ids``. The tokens of the rows in ``deep`` run to
        the last layer unjudged."""
        which = list(range(self.cache.rows)) if rows is None else list(rows)
        place, count = self._place(which), len(which)
        hidden = self.backbone.embed(torch.tensor(ids, device=self.backbone.device)[:, None])
        if self.policy is None:
            hidden = self._layers.run(hidden, self.cache, 0, self.backbone.depth, place)
            logits = self.backbone.readout(hidden[:, 0])
            none = [0] * count
            step = Step(logits, [self.backbone.depth] * count, [None] * count, none, none, none)
        else:
            step = self._step_with_exits(hidden, which, place, self.policy, deep)
        self._grow(which)
        return step

    def _grow(self, rows: Sequence[int]) -> None:
        """A token more of each of these rows is known."""
        for row in rows:
            self.lengths[row] += 1
            self._answered[row] += 1

    def _step_with_exits(
        self,
        hidden: Tensor,
        rows: list[int],
        place: Placement,
        policy: ExitPolicy,
        deep: Collection[int],
    ) -> Step:
        front = Front(rows, list(range(len(rows))), hidden, place, 0)
        outcome = Outcome(place.batch, self.backbone.depth)
        self._pass_exits(front, range(len(policy.layers)), deep, outcome)
        self._pass_last(front, outcome)
        return outcome.step([self._session.catch_up(row) for row in rows])

    def _pass_exits(
        self, front: Front, exits: range, deep: Collection[int], outcome: Outcome
    ) -> None:
        """Take a step from exit to exit; ``front`` keeps the tokens that have not left."""
        policy = self._policy()
        for exit in exits:
            if not front.active:
                break
            layer = policy.layers[exit]
            front.hidden = self._session.run(front.hidden, front.layer, layer, front.place)
            front.layer = layer
            judged = [b for b, row in enumerate(front.active_rows()) if row not in deep]
            gone = self._check(exit, front, judged, outcome) if judged else []
            if len(gone) == len(front.active):
                self._session.leave(front.hidden, layer, front.place)
                front.active = []
            elif gone:
                rows = front.active_rows()
                leaving = self._place([rows[b] for b in gone])
                self._session.leave(front.hidden[gone], layer, leaving)
                stay = sorted(set(range(len(rows))) - set(gone))
                front.active = [front.active[b] for b in stay]
                front.hidden = front.hidden[stay]
                front.place = self._place([rows[b] for b in stay])
        outcome.settle(self.backbone.readout)

    def _pass_last(self, front: Front, outcome: Outcome) -> None:
        """Take what has not left through the rest of the layers."""
        if front.active:
            depth = self.backbone.depth
            hidden = self._session.run(front.hidden, front.layer, depth, front.place)
            logits = self._read_last(hidden[:, 0], front.active_rows())
            outcome.read(front.active, logits, depth)

    def _read_last(self, hidden: Tensor, rows: list[int]) -> Tensor:
        """Logits [B, vocab] of the tokens of these rows that reached the last layer [B, hidden]."""
        return self.backbone.readout(hidden)

    def _check(self, exit: int, front: Front, judged: list[int], outcome: Outcome) -> list[int]:
        """Judge at an exit those of the active tokens with the numbers ``judged`` and read out
        those that leave, whose numbers are given back."""
        policy, rows, place = self._policy(), front.active_rows(), front.place
        limits = [self._limit(exit, rows[b], policy) for b in judged]
        states = front.hidden[:, 0]
        if len(judged) < len(rows):
            states, place = front.hidden[judged, 0], self._place([rows[b] for b in judged])
        evidence = Evidence(exit, states, self._readout, min(limits))
        scores = policy.judge.score(exit, evidence, self._judging, place.rows).tolist()
        leave = [i for i, score in enumerate(scores) if limits[i] <= score < math.inf]
        which = [front.active[b] for b in judged]
        leaving = [which[i] for i in leave]
        if leave and evidence.knows(leave):
            outcome.read(leaving, evidence.logits(leave), policy.layers[exit])
            outcome.own_readouts(leaving)
        elif leave:
            outcome.leave(leaving, self._translated(exit, states[leave]), policy.layers[exit])
        outcome.judge(which, scores, evidence.readouts)
        return [judged[i] for i in leave]

    def _limit(self, exit: int, row: int, policy: ExitPolicy) -> float:
        """The score at which the next token of a row leaves."""
        return policy.limits(exit, [self._answered[row]], self._thresholds[row])[0]

    def _readout(self, exit: int, hidden: Tensor) -> Tensor:
        return self.backbone.readout(self._translated(exit, hidden))

    def _translated(self, exit: int, hidden: Tensor) -> Tensor:
        translators = self._policy().translators
        return hidden if translators is None else translators.apply(exit, hidden)

    def _policy(self) -> ExitPolicy:
        assert self.policy is not None
        return self.policy

    def _place(self, rows: list[int], lengths: list[int] | None = None) -> Placement:
        """Where the next tokens of these rows sit, one each if ``lengths`` does not say."""
        starts = [self.lengths[row] for row in rows]
        whole = len(rows) == self.cache.rows
        return self.backbone.place(starts, lengths or [1] * len(rows), None if whole else rows)

    def set_thresholds(self, row: int, thresholds: tuple[float, ...] | None) -> None:
        """Give the text of a row thresholds of its own (None: the policy's)."""
        self._thresholds[row] = thresholds

    @torch.inference_mode()
    def clear(self, row: int) -> None:
        """Forget the text of a row and make it ready for another."""
        self.cache.clear(row, self.lengths[row])
        self.lengths[row] = self._answered[row] = 0
        self._thresholds[row] = None
        if self.policy is not None:
            self._session.clear(row)
            self._judging.put(row, self.policy.judge.new_state(1))

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows only, in this order."""
        self.cache.keep(rows)
        self.lengths = [self.lengths[row] for row in rows]
        self._answered = [self._answered[row] for row in rows]
        self._thresholds = [self._thresholds[row] for row in rows]
        if self.policy is not None:
            self._session.keep(rows)
            self._judging.keep(torch.tensor(list(rows), device=self.backbone.device))
