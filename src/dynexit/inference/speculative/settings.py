"""How to draft and what to verify."""

from __future__ import annotations

from dataclasses import dataclass

from dynexit.errors import UserError

LONGEST = 7  # with the token that carries the drafts along, all that the kernels take at once


@dataclass(frozen=True)
class Lossless:
    """Settings of drafting and verification; a value out of range raises ``UserError``.

    At most ``max_draft`` drafts are verified together. With ``adapt`` their number follows from
    what was accepted so far, without it the most is always drafted. ``strict`` runs every token of
    every row in calls of its own, so that the arithmetic is that of plain decoding of one row
    wherever it runs; on a CPU with our own kernels one row has that anyway.

    ``verify_every`` k above 1 looks only at every k-th draft, ``verify_below`` s only at drafts
    whose score is below s: bounded modes between this and plain exits, whose answers may differ.
    """

    max_draft: int = LONGEST
    adapt: bool = True
    strict: bool = False
    verify_every: int = 1
    verify_below: float | None = None

    def __post_init__(self) -> None:
        for name in ("max_draft", "verify_every"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise UserError(f"{name} is {value!r}; give a whole number of at least 1")
        below = self.verify_below
        if below is not None and not 0.0 <= below <= 1.0:
            raise UserError(f"verify_below is {below!r}; give a score from 0 to 1")

    @property
    def exact(self) -> bool:
        """Whether every draft is verified."""
        return self.verify_every == 1 and self.verify_below is None

    @property
    def most_waiting(self) -> int:
        """Tokens of a row that may wait for their verification at once."""
        return self.max_draft + 1 if self.exact else max(32, self.max_draft + 1)

    def checks(self, number: int, score: float | None) -> bool:
        """Whether draft ``number`` (from 1) of an answer, left with ``score``, is verified."""
        if self.verify_below is not None and score is not None and score >= self.verify_below:
            return False
        return number % self.verify_every == 0
