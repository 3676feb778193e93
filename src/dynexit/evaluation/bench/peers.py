"""The peers suite: other systems on the same checkpoint, by the script in ``benchmarks/peers``.

It works from a checkout of the repository in which ``make bench-peers`` has installed them, in an
environment of their own. Rows and their keys are the script's; the checkpoint must be bf16.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from dynexit.errors import UserError
from dynexit.evaluation.bench.limits import Limits
from dynexit.evaluation.bench.plan import Plan
from dynexit.evaluation.bench.rounds import Found
from dynexit.evaluation.bench.subject import Subject
from dynexit.evaluation.bench.suite import Row, Runs
from dynexit.files import read_json

USER_ERROR = 2  # how the script ends where the user can mend it
SCRIPT, ENVIRONMENT = Path("benchmarks/peers/run.py"), Path(".venv-peers")


class Peers:
    """One run of the script, which interleaves its own rounds."""

    def __init__(self, subject: Subject, plan: Plan, checkout: Path | None = None) -> None:
        self._subject, self._plan = subject, plan
        self._checkout = _checkout() if checkout is None else checkout
        if not (self._checkout / SCRIPT).is_file():
            raise UserError(
                f"suite peers: {self._checkout / SCRIPT} is not there; clone the repository and "
                "run `make bench-peers` in it"
            )
        if not (self._checkout / ENVIRONMENT).is_dir():
            raise UserError(
                f"suite peers: the other systems are not installed in {self._checkout}; "
                "run `make bench-peers` there"
            )

    def runs(self) -> Runs:
        return {}

    def rows(self, found: Found, limits: Limits) -> list[Row]:
        with TemporaryDirectory() as folder:
            told = Path(folder) / "peers.json"
            done = subprocess.run(self._command(told), cwd=self._checkout, stdout=subprocess.PIPE)
            if done.returncode == USER_ERROR:  # it has said why on standard error
                raise UserError("suite peers: the script refused, for the reason above")
            done.check_returncode()
            rows: list[Row] = read_json(told)["rows"]
            return rows

    def _command(self, told: Path) -> list[str]:
        subject, plan = self._subject, self._plan
        options = {
            "--checkpoint": subject.directory.resolve(),
            "--python": self._checkout / ENVIRONMENT / "bin" / "python",
            "--work": (subject.work / "peers").resolve(),
            "--rounds": plan.rounds,
            "--tokens": max(2, plan.tokens),
            "--threads": torch.get_num_threads(),
            "--json": told,
        }
        words = [str(part) for option in options.items() for part in option]
        return [sys.executable, str(self._checkout / SCRIPT), *words]


def _checkout() -> Path:
    """The repository that this package is installed from, if it is an editable install."""
    return Path(__file__).resolve().parents[4]
