"""How far to draft: learned from what was accepted, against what a draft costs.

A full token costs 1 and a draft c of that (its layers, the judge and a readout), a token that is
verified along with another v. With acceptance probability p, verifying k drafts together gives
``(1 - p^(k+1)) / (1 - p)`` tokens for ``1 + k (c + v)``. The policy takes the k with most tokens
for the cost, and none where plain decoding is as good: then it tries a single draft now and then,
the more rarely the more often that fails. Inside of a run of drafts it stops as soon as the next
draft, if all before it stand as the exits they left at suggest, is worth less than it costs.

Everything counts and nothing is timed, so equal seeds draft alike on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_PRIOR = 2.0  # drafts that what is expected counts for before anything is known
_MEMORY = 64.0  # drafts after which what was learned counts 1/e
_FIRST_GAP, _LONGEST_GAP = 32, 256  # full tokens between trials while drafting does not pay


class DraftPolicy:
    """Learns over the texts of one model and exit policy; it may serve several rows and calls.

    ``costs`` gives the cost of a draft by exit layer and ``verifying`` that of a token verified
    along with another, both as a share of a full token; ``expected`` the share of drafts that is
    accepted by exit layer, as long as nothing is known.
    """

    def __init__(
        self,
        costs: Mapping[int, float],
        verifying: float,
        longest: int,
        expected: Mapping[int, float],
    ) -> None:
        self._costs = dict(costs)
        self._verifying = verifying
        self._longest = longest
        self._stood = {layer: _PRIOR * expected[layer] for layer in costs}
        self._fell = {layer: _PRIOR * (1.0 - expected[layer]) for layer in costs}
        self._used = dict.fromkeys(costs, 1.0)
        self._gap, self._plain = _FIRST_GAP, 0
        self._plan: tuple[int, float] | None = None

    def length(self) -> int:
        """Most drafts to verify together from here on; 0 where a full token is as good."""
        count, _ = self._best()
        if count:
            return count
        self._plain += 1
        if self._plain <= self._gap:
            return 0
        self._plain = 0
        return 1

    def goes_on(self, exits: Sequence[int]) -> bool:
        """Whether one more draft pays after drafts that left at ``exits``."""
        reach = 1.0
        for layer in exits:
            reach *= self.acceptance(layer)
        mean_cost = self._mean(self._costs) + self._verifying
        return reach * self._mean({e: self.acceptance(e) for e in self._costs}) > (
            self._best()[1] * mean_cost
        )

    def acceptance(self, layer: int) -> float:
        """The probability that a draft from this exit layer is accepted, as known so far."""
        return self._stood[layer] / (self._stood[layer] + self._fell[layer])

    def learn(self, exits: Sequence[int], accepted: int) -> None:
        """Drafts that left at ``exits`` were verified, and the first ``accepted`` of them stood."""
        for number, layer in enumerate(exits[: accepted + 1]):
            for counts in (self._stood, self._fell):
                counts[layer] *= 1.0 - 1.0 / _MEMORY
            stood = number < accepted
            (self._stood if stood else self._fell)[layer] += 1.0
            for other in self._used:
                self._used[other] *= 1.0 - 1.0 / _MEMORY
            self._used[layer] += 1.0
        if exits:
            self._gap = _FIRST_GAP if accepted else min(2 * self._gap, _LONGEST_GAP)
            self._plan = None

    def _best(self) -> tuple[int, float]:
        """The number of drafts with most tokens for the cost, and these tokens for a cost of 1."""
        if self._plan is None:
            p = self._mean({layer: self.acceptance(layer) for layer in self._costs})
            each = self._mean(self._costs) + self._verifying
            best, tokens = (0, 1.0), 1.0
            for count in range(1, self._longest + 1):
                tokens += p**count
                rate = tokens / (1.0 + count * each)
                best = (count, rate) if rate > best[1] else best
            self._plan = best
        return self._plan

    def _mean(self, of: Mapping[int, float]) -> float:
        """Over exit layers, as often as each was used of late."""
        return sum(of[e] * n for e, n in self._used.items()) / sum(self._used.values())
