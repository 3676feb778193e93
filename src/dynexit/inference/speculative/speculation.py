"""Rows that draft and verify, each at its own pace, a step of the decoder at a time.

In a step every row feeds one token. A token that its judge lets go early becomes a draft, fed in
the next step; one that runs to the last layer takes the waiting ones along, in one batch through
the layers they have not seen, and so verifies them all and adds a token of its own. Where it falls
out otherwise than drafted, the row goes back to the last token that stands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from dynexit.exits.policy import ExitPolicy
from dynexit.inference.generation import Drafting
from dynexit.inference.sampling import Sampler
from dynexit.inference.speculative.acceptance import Draft, accept, propose
from dynexit.inference.speculative.decoder import VerifyingDecoder
from dynexit.inference.speculative.draft_policy import DraftPolicy
from dynexit.inference.speculative.settings import Lossless
from dynexit.inference.step import Step
from dynexit.models.backbone import Backbone


@dataclass(frozen=True)
class Feed:
    """What a row feeds: its last token, how many it may still make (``room``), and whether nothing
    comes after these drafts if they stand (``ends``). Tokens are chosen by row ``seat`` of
    ``sampler``."""

    token: int
    room: int
    ends: Callable[[Sequence[int]], bool]
    sampler: Sampler
    seat: int = 0


@dataclass(frozen=True)
class Made:
    """A token that stands; its draft's exit layer and score, or those of a step at full depth."""

    token: int
    exit_layer: int
    score: float | None


@dataclass
class Cycle:
    """The drafts of a row that wait for their verification, and how many there may be."""

    longest: int
    begin: int  # tokens of the text before the first that waits
    drafts: list[Draft] = field(default_factory=list)

    @property
    def checked(self) -> int:
        return sum(draft.checked for draft in self.drafts)


@dataclass
class Tally:
    """Counts of one row; see ``Drafting``."""

    passes: list[int]
    drafts: int = 0
    accepted: int = 0
    cycles: int = 0
    fed: int = 0
    invalid_scores: int = 0

    def ran(self, start: int, stop: int, fed: int) -> None:
        self.fed += fed
        for layer in range(start, stop):
            self.passes[layer] += 1


def drafting_of(tally: Tally, seconds: float = 0.0) -> Drafting:
    """What a row has come to, ``seconds`` of them in steps that made a draft."""
    counts = (tally.drafts, tally.accepted, tally.cycles, tally.fed, tuple(tally.passes))
    return Drafting(*counts, seconds, tally.invalid_scores)


class Speculation:
    """Decodes ``rows`` texts of at most ``capacity`` tokens."""

    def __init__(
        self,
        backbone: Backbone,
        rows: int,
        capacity: int,
        policy: ExitPolicy,
        settings: Lossless,
        drafting: DraftPolicy,
    ) -> None:
        most, strict = settings.most_waiting, settings.strict
        self.decoder = VerifyingDecoder(backbone, rows, capacity, policy, most, strict)
        self.tallies = [Tally([0] * backbone.depth) for _ in range(rows)]
        self._settings, self._drafting = settings, drafting
        self._depth = backbone.depth
        self._cycles: list[Cycle | None] = [None] * rows

    def clear(self, row: int) -> None:
        """Make a row ready for another text."""
        self._cycles[row] = None
        self.tallies[row] = Tally([0] * self._depth)
        self.decoder.commit(row)
        self.decoder.clear(row)

    def step(self, feeds: Mapping[int, Feed]) -> dict[int, list[Made]]:
        """Feed one token to each of these rows; the tokens that stand by now, none while a row
        drafts."""
        rows = sorted(feeds)
        deep = [row for row in rows if self.prepare(row, feeds[row])]
        ids = [self.next(row, feeds[row]) for row in rows]
        step = self.decoder.step(ids, rows, deep)
        return {row: self.take(row, feeds[row], step, at) for at, row in enumerate(rows)}

    def next(self, row: int, feed: Feed) -> int:
        """The token that the row feeds: its last draft if it has any."""
        cycle = self._cycles[row]
        return cycle.drafts[-1].token if cycle is not None and cycle.drafts else feed.token

    def take(self, row: int, feed: Feed, step: Step, at: int) -> list[Made]:
        """What came of a row's token in a step of the decoder, where it was number ``at``."""
        self.tallies[row].ran(0, step.exit_layers[at], fed=1)
        self.tallies[row].invalid_scores += step.invalid_scores[at]
        if step.exit_layers[at] == self._depth:
            return self._verify(row, feed, step.scores[at])
        return self._draft(row, feed, step, at)

    def prepare(self, row: int, feed: Feed) -> bool:
        """To be called before each step: begins a cycle where there is none, and tells whether the
        row's token is to run to the end."""
        cycle = self._cycles[row]
        if cycle is None:
            longest = min(self._longest(), feed.room - 1)
            if longest < 1:
                return True
            self._cycles[row] = Cycle(longest, self.decoder.lengths[row])
            return False
        if len(cycle.drafts) == 1:  # the first that may have to be taken back comes now
            self.decoder.begin(row, cycle.drafts[0].exit_layer)
        self.decoder.mark(row)
        return self._is_long(cycle, feed)

    def _longest(self) -> int:
        return self._drafting.length() if self._settings.adapt else self._settings.max_draft

    def _is_long(self, cycle: Cycle, feed: Feed) -> bool:
        waiting = len(cycle.drafts) + 1
        if waiting >= min(feed.room, self._settings.most_waiting) or cycle.checked >= cycle.longest:
            return True
        checked = [draft.exit_layer for draft in cycle.drafts if draft.checked]
        return self._settings.adapt and bool(checked) and not self._drafting.goes_on(checked)

    def _draft(self, row: int, feed: Feed, step: Step, at: int) -> list[Made]:
        cycle, tally = self._cycles[row], self.tallies[row]
        assert cycle is not None
        token, proposal = propose(feed.sampler, feed.seat, step.logits[at : at + 1])
        tally.drafts += 1
        checked = self._settings.checks(tally.drafts, step.scores[at])
        left, score = step.exit_layers[at], step.scores[at]
        cycle.drafts.append(Draft(token, left, score, proposal, checked))
        if not feed.ends([draft.token for draft in cycle.drafts]):
            return []
        if not cycle.checked:  # all stand as they are, and nothing comes after them
            return self._close(row, cycle, [draft.token for draft in cycle.drafts], None)
        self.decoder.flush(row)
        tally.ran(min(draft.exit_layer for draft in cycle.drafts), self._depth, fed=0)
        return self._verify(row, feed, None)

    def _verify(self, row: int, feed: Feed, score: float | None) -> list[Made]:
        """Tokens by the logits at the last layer of all that waited, and of a token that came there
        by itself."""
        logits, cycle = self.decoder.verified(row), self._cycles[row]
        if cycle is None or not cycle.drafts:
            self._cycles[row] = None
            return [Made(feed.sampler.sample(logits, [feed.seat])[0], self._depth, score)]
        tokens = accept(feed.sampler, feed.seat, cycle.drafts, logits)
        return self._close(row, cycle, tokens, score)

    def _close(self, row: int, cycle: Cycle, tokens: list[int], score: float | None) -> list[Made]:
        """End the cycle with these tokens in place of the drafts, and go back where they differ."""
        drafts, tally = cycle.drafts, self.tallies[row]
        pairs = zip(drafts, tokens, strict=False)
        stood = next((i for i, (d, t) in enumerate(pairs) if d.token != t), len(drafts))
        tally.accepted += stood
        tally.cycles += 1
        self._learn(drafts, stood)
        kept = cycle.begin + stood + 1
        if kept < self.decoder.lengths[row]:
            self.decoder.rewind(row, kept, stood + 1)
        else:
            self.decoder.commit(row)
        self._cycles[row] = None
        made = [Made(d.token, d.exit_layer, d.score) for d in drafts[:stood]]
        return made + [Made(token, self._depth, score) for token in tokens[stood:]]

    def _learn(self, drafts: list[Draft], stood: int) -> None:
        checked = [draft.exit_layer for draft in drafts if draft.checked]
        self._drafting.learn(checked, sum(draft.checked for draft in drafts[:stood]))
