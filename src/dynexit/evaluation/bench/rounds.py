"""The timing core: every configuration runs once a round, in an order that turns with the rounds.

A machine's speed drifts, with heat and with what else it does. Run side by side, configurations
drift together, and ratios between them hold; and as the order turns, none is always first.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Samples:
    """What one configuration measured, one number a round, in order of rounds."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)


@dataclass(frozen=True)
class Found:
    """The samples of every configuration that has any, and whether the user stopped the rounds."""

    samples: Mapping[Hashable, Samples]
    stopped: bool = False

    def median(self, key: Hashable) -> float | None:
        """The median of a configuration, None where it did not get to run."""
        samples = self.samples.get(key)
        return None if samples is None else samples.median


def measure(
    runs: Mapping[Key, Callable[[], float]], rounds: int, tick: Callable[[], None] = lambda: None
) -> Found:
    """Run every configuration ``rounds`` times, interleaved; ``tick`` is called after each run.

    A run gives the number it measured, mostly seconds, so what it needs to prepare is not counted.
    ``KeyboardInterrupt`` ends the rounds early if anything was measured by then, and else passes.
    """
    values: dict[Key, list[float]] = {key: [] for key in runs}
    stopped = False
    gc.collect()
    gc.freeze()  # what is there by now is not looked through again before each run
    try:
        for number in range(rounds):
            for key in rotated(list(runs), number):
                gc.collect()  # what the run before left is not this one's to clear away
                values[key].append(runs[key]())
                tick()
    except KeyboardInterrupt:
        if not any(values.values()):
            raise
        stopped = True
    finally:
        gc.unfreeze()
    return Found({key: Samples(tuple(v)) for key, v in values.items() if v}, stopped)


def rotated(keys: Sequence[Key], number: int) -> list[Key]:
    """The order of a round (``number`` from 0): the first as given, each later one turned on by a
    place."""
    at = number % len(keys) if keys else 0
    return [*keys[at:], *keys[:at]]
