"""Which drafts stand, and which token comes after them.

Greedy: a draft stands if it is the full model's token. Sampling: a draft x, drawn from q, stands
with probability min(1, p(x) / q(x)), and the first that does not is replaced by a draw from
max(p - q, 0); what comes out is distributed as p (Leviathan et al. 2023, theorem 1; Chen et al.
2023). p and q are what is left after repetition penalty, temperature, top-k, top-p and min-p, the
penalty counting the tokens that stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from dynexit.inference.sampling import Sampler, draw


@dataclass(frozen=True)
class Draft:
    """A token proposed by an exit. ``proposal`` [vocab] is the distribution it was drawn from (None
    if greedy); ``checked`` says whether it is verified."""

    token: int
    exit_layer: int
    score: float | None
    proposal: Tensor | None
    checked: bool = True


def propose(sampler: Sampler, row: int, logits: Tensor) -> tuple[int, Tensor | None]:
    """A token by an exit's logits [1, vocab] and what it was drawn from; it counts as seen."""
    if sampler.settings.greedy:
        return sampler.sample(logits, [row])[0], None
    probs = sampler.distribution(logits, [row])
    token = int(draw(probs, sampler.uniform([row])))
    sampler.see(row, [token])
    return token, probs[0]


def accept(sampler: Sampler, row: int, drafts: Sequence[Draft], logits: Tensor) -> list[int]:
    """The tokens that follow from the full model's logits, [drafts, vocab] or one more: drafts as
    far as they stand, then the full model's own token (after all of them only with one more).

    They count as seen afterwards, and no other draft does.
    """
    sampler.forget(row, [draft.token for draft in drafts])
    tokens: list[int] = []
    for at, draft in enumerate(drafts):
        token = _verified(sampler, row, draft, logits[at : at + 1])
        tokens.append(token)
        if token != draft.token:
            return tokens
    if len(logits) > len(drafts):
        tokens += sampler.sample(logits[len(drafts) :], [row])
    return tokens


def _verified(sampler: Sampler, row: int, draft: Draft, logits: Tensor) -> int:
    """The draft's token if it stands, else the one in its place."""
    if not draft.checked:
        sampler.see(row, [draft.token])
        return draft.token
    if draft.proposal is None:
        return sampler.sample(logits, [row])[0]
    token = _sampled(sampler, row, draft, draft.proposal, logits)
    sampler.see(row, [token])
    return token


def _sampled(sampler: Sampler, row: int, draft: Draft, proposal: Tensor, logits: Tensor) -> int:
    probs = sampler.distribution(logits, [row])[0]
    wanted, offered = float(probs[draft.token]), float(proposal[draft.token])
    if float(sampler.uniform([row])) * offered < wanted:
        return draft.token
    rest = (probs - proposal).clamp_min(0.0)
    if not bool(rest.any()):  # p and q differ by rounding alone
        rest = probs
    return int(draw(rest[None], sampler.uniform([row])))
