"""Every system decodes once a round, one at a time, in an order that turns with the rounds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any

from prepare import HERE, Weights
from process import Worker, WorkerError
from systems import System

from dynexit.evaluation.bench.rounds import rotated

LOADING, DECODING = 1200.0, 1800.0  # seconds before a worker is given up


@dataclass
class Measured:
    """What became of a system: seconds per token in each round, or the reason why not.

    ``idle`` is the most CPU time that its process took while others ran.
    """

    system: System
    seconds: list[float] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    bytes: int | None = None
    drafting: dict[str, Any] | None = None
    idle: float = 0.0
    reason: str | None = None

    @property
    def median(self) -> float:
        return median(self.seconds)


class Crew:
    """The workers, each started once and kept; those of one process share its weights."""

    def __init__(self, weights: Weights, python: Path, threads: int, logs: Path) -> None:
        self._weights, self._python, self._threads, self._logs = weights, python, threads, logs
        self._workers: dict[tuple[str, str, str], Worker | WorkerError] = {}
        self.versions: dict[str, str] = {}
        logs.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self._workers.values():
            if isinstance(worker, Worker):
                worker.close()

    def decode(self, system: System, tokens: int) -> dict[str, Any]:
        """The worker's reply, or ``WorkerError``."""
        key = (system.worker, system.weights, system.process)
        if key not in self._workers:
            try:
                self._workers[key] = self._start(system)
            except WorkerError as error:
                self._workers[key] = error
        worker = self._workers[key]
        if isinstance(worker, WorkerError):
            raise worker
        return worker.decode(tokens, system.options, DECODING)

    def _start(self, system: System) -> Worker:
        path = self._weights.path(system.weights)
        python = sys.executable if system.peer == "dynexit" else str(self._python)
        command = [python, str(HERE / system.worker), str(path), str(self._threads)]
        log = self._logs / f"{system.name.replace(' ', '-').replace(':', '')}.log"
        worker = Worker(command, self._threads, log, LOADING)
        self.versions[system.peer] = worker.version
        return worker


def measure(
    crew: Crew,
    asked: Sequence[System],
    rounds: int,
    tokens: int,
    tick: Callable[[str], None] = lambda name: None,
) -> list[Measured]:
    """One round to warm up, then ``rounds`` that count; Ctrl-C ends them early.

    A system that fails is left out from then on, with its reason.
    """
    found = [Measured(system) for system in asked]
    try:
        for number in range(-1, rounds):
            for one in rotated(found, max(number, 0)):
                tick(one.system.name)
                if one.reason is None:
                    _once(crew, one, tokens)
                    if number < 0:  # what is compiled or read from disk now is not counted
                        one.seconds.clear()
    except KeyboardInterrupt:
        if not any(one.seconds for one in found):
            raise
    return found


def _once(crew: Crew, one: Measured, tokens: int) -> None:
    try:
        reply = crew.decode(one.system, tokens)
    except WorkerError as error:
        one.reason = str(error)
        return
    one.seconds.append(reply["seconds"] / max(reply["steps"], 1))
    one.ids, one.bytes, one.drafting = reply["ids"], reply["bytes"], reply["drafting"]
    one.idle = max(one.idle, reply["idle_cpu_seconds"])
