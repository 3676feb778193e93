"""The suites by name, and the run of one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dynexit.errors import UserError
from dynexit.evaluation.bench.batch import Batch
from dynexit.evaluation.bench.context import Context
from dynexit.evaluation.bench.depth import Depth
from dynexit.evaluation.bench.judges import Judges
from dynexit.evaluation.bench.limits import READ_BYTES, Limits
from dynexit.evaluation.bench.lossless import LosslessDecoding
from dynexit.evaluation.bench.machine import Machine
from dynexit.evaluation.bench.memory import Memory
from dynexit.evaluation.bench.peers import Peers
from dynexit.evaluation.bench.plan import Plan
from dynexit.evaluation.bench.prefill import Prefill
from dynexit.evaluation.bench.rounds import measure
from dynexit.evaluation.bench.subject import Subject
from dynexit.evaluation.bench.suite import Row, Runs, Suite
from dynexit.evaluation.counting import Counting

_SUITES: dict[str, Callable[[Subject, Plan], Suite]] = {
    "depth": Depth,
    "batch": Batch,
    "context": Context,
    "prefill": Prefill,
    "judges": Judges,
    "lossless": LosslessDecoding,
    "memory": Memory,
    "machine": Machine,
    "peers": Peers,
}
SUITES: tuple[str, ...] = tuple(_SUITES)


@dataclass(frozen=True)
class BenchReport:
    """What a suite found: the machine with its limits, and the rows that the suite's file
    describes. ``stopped`` where the user ended it before the last round."""

    suite: str
    model: str
    dtype: str
    plan: Plan
    machine: dict[str, Any]
    rows: list[Row]
    stopped: bool

    def as_json(self) -> dict[str, Any]:
        """As ``dynexit bench --json`` prints it."""
        return {
            "suite": self.suite,
            "model": self.model,
            "dtype": self.dtype,
            "rounds": self.plan.rounds,
            "tokens": self.plan.tokens,
            "machine": self.machine,
            "rows": self.rows,
            "stopped": self.stopped,
        }


def check_suite(name: str) -> None:
    """Raise ``UserError`` where no suite has that name."""
    if name not in _SUITES:
        raise UserError(f"--suite {name!r} is not known; choose from {', '.join(SUITES)}")


def bench(
    name: str, subject: Subject, plan: Plan, counting: Counting, read_bytes: int = READ_BYTES
) -> BenchReport:
    """Run the configurations of a suite and the machine's probes, interleaved, in
    ``plan.rounds`` rounds. ``KeyboardInterrupt`` after the first run ends it with what is known.

    ``read_bytes`` are read to measure the read bandwidth. Raises ``UserError`` where the plan asks
    for what the model has not, or for more than memory holds.
    """
    check_suite(name)
    suite = _SUITES[name](subject, plan)
    limits = Limits(subject.config, subject.weight_bytes, read_bytes)
    runs: Runs = {**suite.runs(), **limits.runs()}
    with counting(f"{subject.name}: {name}", plan.rounds * len(runs)) as tick:
        found = measure(runs, plan.rounds, tick)
    machine, rows = limits.describe(found), suite.rows(found, limits)
    return BenchReport(name, subject.name, subject.stored, plan, machine, rows, found.stopped)
