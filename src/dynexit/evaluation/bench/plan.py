"""What a benchmark is asked to do."""

from __future__ import annotations

from dataclasses import dataclass

from dynexit.errors import UserError


@dataclass(frozen=True)
class Plan:
    """The options of ``dynexit bench`` that suites share; None leaves the choice to the suite.

    ``sizes`` are batch sizes, context lengths or prompt lengths, as the suite has it.
    """

    rounds: int = 5
    tokens: int = 32
    layers: tuple[int, ...] | None = None
    states: tuple[str, ...] | None = None
    judges: tuple[str, ...] | None = None
    sizes: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for option, number in (("--rounds", self.rounds), ("--tokens", self.tokens)):
            if number < 1:
                raise UserError(f"{option} {number}: give at least 1")
        if self.sizes is not None and (not self.sizes or min(self.sizes) < 1):
            raise UserError("--sizes: give whole numbers of at least 1, such as 1,4,16")
