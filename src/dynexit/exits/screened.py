"""Judges of the readout behind a screen: cheap where a token stays, exact where it leaves.

The judge is asked on the screen's rough logits first. Only where these say that the token may leave
is the vocabulary read out and the judge asked again; that answer counts, and that readout is the
token's own. So a screen can cost savings, by an exit missed or a readout in vain, but never changes
what leaving means.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from dynexit.errors import UserError
from dynexit.exits.judge import Evidence, Judge, JudgeState
from dynexit.exits.judges.confidence import Entropy, Margin, TopProbability
from dynexit.exits.judges.patience import Patience
from dynexit.exits.screen import Screen
from dynexit.models.placement import Placement

Confidence = TopProbability | Margin | Entropy


class _Behind:
    """What screened judges share: all that is the judge's own, and the screen's cost."""

    def __init__(self, judge: Confidence | Patience, screen: Screen) -> None:
        self.kind, self.layers = judge.kind, judge.layers
        self.options: Mapping[str, int] = judge.options
        self.screen = screen

    def observe(self, exit: int, hidden: Tensor, state: JudgeState, place: Placement) -> None:
        """The prompt says nothing to a judge that looks at one token alone."""

    def flops(self, exit: int) -> int:
        return self.screen.flops()

    def weight_bytes(self, exit: int) -> int:
        return self.screen.weight_bytes()

    def needs_logits(self) -> bool:
        return False  # not every check does; those that did are counted as they happen


class ScreenedConfidence(_Behind):
    """A score below ``evidence.least`` is the screen's, any other is the judge's own."""

    def __init__(self, judge: Confidence, screen: Screen) -> None:
        super().__init__(judge, screen)
        self._judge = judge

    def new_state(self, rows: int) -> JudgeState:
        return JudgeState({})

    def score(
        self, exit: int, evidence: Evidence, state: JudgeState, rows: Tensor | None
    ) -> Tensor:
        rough = Evidence(exit, evidence.hidden, self.screen.logits)
        scores = self._judge.score(exit, rough, state, rows)
        may = [b for b, score in enumerate(scores.tolist()) if score >= evidence.least]
        if may:
            exact = evidence.logits(may)
            seen = Evidence(exit, evidence.hidden[may], lambda exit, hidden: exact)
            scores[may] = self._judge.score(exit, seen, state, None)
        return scores


class ScreenedPatience(_Behind):
    """Patience on the screen's best tokens; where it is used up, the exits that it counts are read
    out, the earlier ones from their hidden states, which are kept for it.

    A token that leaves has as many readouts as patience asks for, so this spares only those of
    tokens that stay: on the reference pair, where most leave, it cost 2 to 6 % of the FLOPs.
    """

    def __init__(self, judge: Patience, screen: Screen, hidden: int) -> None:
        super().__init__(judge, screen)
        self.patience = judge.patience
        self._hidden, self._device = hidden, judge.device

    def new_state(self, rows: int) -> JudgeState:
        """Per exit the best token, whether it is the exact one, and the hidden state."""
        shape, device = (rows, len(self.layers)), self._device
        return JudgeState(
            {
                "token": torch.zeros(shape, dtype=torch.long, device=device),
                "exact": torch.zeros(shape, dtype=torch.bool, device=device),
                "hidden": torch.zeros(*shape, self._hidden, device=device),
            }
        )

    def score(
        self, exit: int, evidence: Evidence, state: JudgeState, rows: Tensor | None
    ) -> Tensor:
        count = evidence.hidden.shape[0]
        at = torch.arange(count, device=evidence.hidden.device) if rows is None else rows
        token, exact = state.tensors["token"], state.tensors["exact"]
        token[at, exit] = self.screen.logits(exit, evidence.hidden).argmax(-1)
        exact[at, exit] = False
        state.tensors["hidden"][at, exit] = evidence.hidden.float()
        scores = self._streak(token[at, : exit + 1])
        may = [b for b, score in enumerate(scores.tolist()) if score >= evidence.least]
        if may:
            largest, token[at[may], exit] = evidence.logits(may).max(-1)
            exact[at[may], exit] = True
            self._read_again(exit, evidence, state, at, may)
            # no number where the logits are none, as without a screen
            scores[may] = self._streak(token[at[may], : exit + 1]) + 0.0 * largest
        return scores

    def _read_again(
        self, exit: int, evidence: Evidence, state: JudgeState, at: Tensor, rows: list[int]
    ) -> None:
        """Make the best tokens exact at the earlier exits that the streak of ``rows`` may hold."""
        token, exact = state.tensors["token"], state.tensors["exact"]
        for before in range(max(0, exit - self.patience + 1), exit):
            rough = [
                b
                for b, known in zip(rows, exact[at[rows], before].tolist(), strict=True)
                if not known
            ]
            if rough:
                hidden = state.tensors["hidden"][at[rough], before].to(evidence.hidden.dtype)
                token[at[rough], before] = evidence.earlier(before, hidden, rough).argmax(-1)
                exact[at[rough], before] = True

    def _streak(self, tokens: Tensor) -> Tensor:
        """Best tokens [B, exits so far] -> scores [B], as ``Patience`` has them."""
        same = (tokens == tokens[:, -1:]).flip(-1)
        length = same.long().cumprod(-1).sum(-1)
        return (length.float() / self.patience).clamp_(max=1.0)


def behind_screen(judge: Judge, screen: Screen, hidden: int) -> Judge:
    """``judge`` behind ``screen``, or ``UserError`` where it doesn't read the vocabulary."""
    if isinstance(judge, TopProbability | Margin | Entropy):
        return ScreenedConfidence(judge, screen)
    if isinstance(judge, Patience):
        return ScreenedPatience(judge, screen, hidden)
    raise UserError(
        f"judge {judge.kind!r} reads no vocabulary that a screen could spare; leave --screen out"
    )
