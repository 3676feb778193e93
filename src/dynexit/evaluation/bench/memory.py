"""The memory suite: the peak of a fresh process against weights and caches.

A row is a way of decoding: ``exit_layer`` and ``state``, ``weights`` and ``caches`` in bytes,
``peak`` resident memory (with ``low`` and ``high`` over rounds) of a process that loads the model,
reads a prompt and decodes; ``imports``, what it had before loading; ``over``, peak less weights
and caches; ``bound``, 1.05 times weights, caches and 300 MB; ``within``, whether the peak is within
it. Pages of mapped files count, although the system can drop them at any time.

    python -m dynexit.evaluation.bench.memory DIRECTORY --tokens 32

is the process that is measured; it prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dynexit.evaluation.bench.capacity import BESIDE_WEIGHTS

if TYPE_CHECKING:  # what is heavy must not be there before ``imports`` is measured
    from dynexit.evaluation.bench.limits import Limits
    from dynexit.evaluation.bench.plan import Plan
    from dynexit.evaluation.bench.rounds import Found
    from dynexit.evaluation.bench.subject import Subject
    from dynexit.evaluation.bench.suite import Row, Runs

SLACK = 1.05


@dataclass(frozen=True)
class Process:
    """A process that decodes so."""

    layer: int
    state: str


class Memory:
    """Full depth and an exit with every state policy, each in a process of its own."""

    def __init__(self, subject: Subject, plan: Plan) -> None:
        from dynexit.evaluation.bench.wishes import exit_layers, states_of

        self._subject, self._tokens = subject, plan.tokens
        depth = subject.config.depth
        half = (max(1, depth // 2),) if plan.layers is None else plan.layers
        exits = [layer for layer in exit_layers(half, depth, subject.small) if layer < depth]
        states = states_of(plan.states, subject.config)
        self._keys = [Process(depth, "none"), *(Process(n, s) for s in states for n in exits)]
        self._told: dict[Process, dict[str, int]] = {}

    def runs(self) -> Runs:
        return {key: partial(self._run, key) for key in self._keys}

    def _run(self, key: Process) -> float:
        import torch

        subject = self._subject
        command = [sys.executable, "-m", __spec__.name, str(subject.directory)]
        command += ["--layer", str(key.layer), "--state", key.state, "--tokens", str(self._tokens)]
        command += ["--threads", str(torch.get_num_threads())]
        if subject.dtype is not None:
            command += ["--dtype", str(subject.dtype).removeprefix("torch.")]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        self._told[key] = json.loads(done.stdout)
        return float(self._told[key]["peak"])

    def rows(self, found: Found, limits: Limits) -> list[Row]:
        return list(self._rows(found))

    def _rows(self, found: Found) -> Iterator[Row]:
        for key in self._keys:
            if key not in found.samples:
                continue
            peak, told = found.samples[key], self._told[key]
            used = told["weights"] + told["caches"]
            bound = SLACK * (used + BESIDE_WEIGHTS)
            yield {
                "exit_layer": key.layer,
                "state": key.state,
                "weights": told["weights"],
                "caches": told["caches"],
                "imports": told["imports"],
                "peak": peak.median,
                "low": peak.low,
                "high": peak.high,
                "over": peak.median - used,
                "bound": bound,
                "within": peak.median <= bound,
            }


def peak_bytes() -> int:
    """The highest resident memory of this process so far.

    Linux carries ``ru_maxrss`` from a parent over into its children, so its own file is read there.
    """
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:  # not Linux
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def decode_once(
    directory: Path, layer: int, state: str, tokens: int, dtype: str | None, threads: int
) -> dict[str, int]:
    """Load, read a prompt, decode; bytes of weights, caches, and peaks."""
    import torch

    from dynexit.evaluation.bench.decoding import PROMPT, WARM_UP, leave_at, timed_steps
    from dynexit.evaluation.bench.subject import open_model
    from dynexit.inference.decoder import Decoder

    imports = peak_bytes()
    torch.set_num_threads(threads)
    subject = open_model(str(directory), None if dtype is None else getattr(torch, dtype))
    backbone, policy = subject.backbone, leave_at(subject, layer, state)
    decoder = Decoder(backbone, 1, PROMPT + WARM_UP + tokens, policy)
    decoder.prefill([list(range(PROMPT))])
    timed_steps(decoder, tokens)
    tensors = {t.data_ptr(): t.nbytes for t in (*backbone.parameters(), *backbone.buffers())}
    return {
        "imports": imports,
        "weights": sum(tensors.values()),
        "caches": decoder.cache.nbytes(),
        "peak": peak_bytes(),
    }


def main() -> None:
    """The measured process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--layer", type=int, required=True)
    parser.add_argument("--state", default="none")
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--dtype")
    parser.add_argument("--threads", type=int, default=1)
    o = parser.parse_args()
    print(json.dumps(decode_once(o.directory, o.layer, o.state, o.tokens, o.dtype, o.threads)))


if __name__ == "__main__":
    main()
