"""What calibration found, for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.table import Table

from dynexit.evaluation.certify import Rung
from dynexit.reporting.tables import percent


def ladder_table(kind: str, rungs: Sequence[Rung]) -> Table:
    """One line for each bound on a ``kind`` of risk; fits 80 columns."""
    confidence = rungs[0].outcome.confidence
    table = Table(title=f"{kind} risk, confidence {confidence:g}", title_justify="left")
    for title in ("risk", "threshold", "measured risk", "p-value", "layer saving", "FLOP saving"):
        table.add_column(title, justify="right")
    for rung in rungs:
        best, valid = rung.outcome.best, rung.outcome.valid
        table.add_row(
            f"{rung.outcome.risk:g}",
            f"{best.threshold:g}" if valid else "none valid",
            f"{best.empirical:.4f}",
            f"{best.p_value:.2g}",
            percent(rung.cost.layer_saving) if valid else "",
            percent(rung.cost.flop_saving) if valid else "",
        )
    return table


def failures(rungs: Sequence[Rung]) -> Iterator[str]:
    """For each bound that no threshold meets, why not, and what would help."""
    for outcome in (rung.outcome for rung in rungs if not rung.outcome.valid):
        need, safest = outcome.needed_n, outcome.tests[0]
        begin = f"Risk {outcome.risk:g}: no threshold is valid with {outcome.n} questions."
        if need is None:
            yield (
                f"{begin} Even at threshold {safest.threshold:g} the measured risk is "
                f"{safest.empirical:.4f}, which no number of questions certifies; try another "
                "judge or state, or a larger risk."
            )
        else:
            yield (
                f"{begin} With the risk of {safest.empirical:.4f} measured at threshold "
                f"{safest.threshold:g}, {need} questions would do; raise --limit or the risk."
            )
