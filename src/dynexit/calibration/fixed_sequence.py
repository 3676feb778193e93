"""Learn then test: the boldest threshold whose risk is certified, by fixed-sequence testing.

Thresholds are tested from the safest on, each at the whole error level, up to the first that cannot
be certified (Angelopoulos et al. 2021, "Learn then test", arXiv 2110.01052). Then with probability
``confidence`` over the calibration questions no certified threshold has a risk above the bound,
whatever the judge, and also if the risk is not monotone. The thresholds and their order must not
depend on the losses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from dynexit.calibration.pvalues import needed_n, p_value


@dataclass(frozen=True)
class ThresholdTest:
    """One hypothesis: the mean loss at a threshold, and the p-value of a risk above the bound."""

    threshold: float
    empirical: float
    p_value: float


@dataclass(frozen=True)
class Outcome:
    """All tests made at one bound, in order; ``passed`` of them certified their threshold."""

    risk: float
    confidence: float
    n: int
    binary: bool
    tests: tuple[ThresholdTest, ...]
    passed: int

    @property
    def valid(self) -> bool:
        """Whether any threshold is certified."""
        return self.passed > 0

    @property
    def best(self) -> ThresholdTest:
        """The test of the boldest certified threshold; of the safest where none is."""
        return self.tests[max(self.passed - 1, 0)]

    @property
    def needed_n(self) -> int | None:
        """Questions that would certify the safest threshold if its mean loss stays what it is;
        None where its mean loss is not below the bound."""
        return needed_n(self.risk, self.confidence, self.tests[0].empirical, self.binary)


def fixed_sequence(
    losses_at: Callable[[float], Sequence[float]],
    thresholds: Sequence[float],
    risk: float,
    confidence: float,
    binary: bool = False,
) -> Outcome:
    """Test ``thresholds``, the safest first, for a risk of at most ``risk``.

    ``losses_at`` gives the losses in [0, 1] of the same questions at a threshold; it is called for
    one threshold after another and for none after the first that fails. ``binary`` says that the
    loss can only be 0 or 1, for which the test is exact. Raises ``ValueError`` for other losses.
    """
    if not thresholds or not 0.0 < confidence < 1.0:
        raise ValueError("fixed-sequence testing needs thresholds and a confidence inside (0, 1)")
    tests: list[ThresholdTest] = []
    n = passed = 0
    for threshold in thresholds:
        losses = losses_at(threshold)
        _check(losses, binary)
        n, empirical = len(losses), min(1.0, fmean(losses))
        tests.append(ThresholdTest(threshold, empirical, p_value(empirical, n, risk, binary)))
        if tests[-1].p_value > 1.0 - confidence:
            break
        passed += 1
    return Outcome(risk, confidence, n, binary, tuple(tests), passed)


def _check(losses: Sequence[float], binary: bool) -> None:
    if not losses:
        raise ValueError("there are no losses to test")
    if not all(0.0 <= loss <= 1.0 for loss in losses):
        raise ValueError("a loss lies outside [0, 1]")
    if binary and not all(loss in (0.0, 1.0) for loss in losses):
        raise ValueError("a binary loss must be 0 or 1")
