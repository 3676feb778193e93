"""The machine suite: the limits alone.

A row is a probe: ``what`` (read, or matvec: matrix times one vector), ``dtype``, ``by`` (torch, or
dynexit's own projections) and ``gb_per_second`` with ``low`` and ``high`` over rounds.
"""

from __future__ import annotations

from dynexit.evaluation.bench.limits import Limits
from dynexit.evaluation.bench.plan import Plan
from dynexit.evaluation.bench.rounds import Found
from dynexit.evaluation.bench.subject import Subject
from dynexit.evaluation.bench.suite import Row, Runs


class Machine:
    """No configuration beside the probes that every suite runs."""

    def __init__(self, subject: Subject, plan: Plan) -> None:
        pass

    def runs(self) -> Runs:
        return {}

    def rows(self, found: Found, limits: Limits) -> list[Row]:
        rows: list[Row] = []
        for probe in limits.probes():
            if (known := limits.bandwidth(probe, found)) is not None:
                rows.append(
                    {
                        "what": probe.what,
                        "dtype": probe.dtype,
                        "by": probe.by,
                        "gb_per_second": known["median"],
                        "low": known["low"],
                        "high": known["high"],
                    }
                )
        return rows
