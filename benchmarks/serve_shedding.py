"""Load shedding by depth: the time per token as clients come and go, with a target and without.

    .venv/bin/python benchmarks/serve_shedding.py --model reference:mamba2 --clients 8 --stories

One client asks, then many, then one again, of three servers in turn: at full depth, with exits at
the strictest certified risk, and with these and a target of time per token. Without --target-ms the
target is that share (--share) of what a token took at full depth with many clients. A table of each
server's time per token, tokens per second and layers saved in each phase.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table
from serve_load import LONG, TOKENS, Address, events, openings, percentile, questions, start_server

from dynexit.files import write_json
from dynexit.models.loading import read_config
from dynexit.reference.pair import reference_directory

FULL = ("--judge", "none")
EXITS = ("--judge", "mamba", "--risk", "0.01")


@dataclass
class Phase:
    """What so many clients of a server met; ``gaps`` are seconds between tokens."""

    clients: int
    seconds: float
    gaps: list[float] = field(default_factory=list)
    exits: list[int] = field(default_factory=list)

    def row(self, server: str, depth: int) -> Row:
        saved = 1 - statistics.fmean(self.exits) / depth
        times = percentile(self.gaps, 0.5), percentile(self.gaps, 0.9)
        return Row(server, self.clients, *times, len(self.exits) / self.seconds, saved)


@dataclass(frozen=True)
class Row:
    """A line of the table; times in milliseconds."""

    server: str
    clients: int
    median: float
    p90: float
    tokens_per_second: float
    layer_saving: float


async def ask(address: Address, body: dict[str, object], phase: Phase, end: float) -> None:
    """Stream one answer; tokens after the end of the phase are read and not counted."""
    last = None
    async with address.ask(json.dumps(body | {"stream": True}).encode()) as (_, reader, _):
        async for event in events(reader):
            if event["choices"][0]["finish_reason"] is not None:
                continue
            now = time.perf_counter()
            if now < end:
                phase.exits.append(event["dynexit"]["exit_layer"])
                phase.gaps += [] if last is None else [now - last]
            last = now


async def run_phase(address: Address, bodies: Sequence[dict[str, object]], phase: Phase) -> None:
    """So many clients, each asking one thing after another."""
    end = time.perf_counter() + phase.seconds

    async def client() -> None:
        while time.perf_counter() < end:
            await ask(address, random.choice(bodies), phase, end)

    await asyncio.gather(*(client() for _ in range(phase.clients)))


def run_server(
    options: argparse.Namespace, words: Sequence[str], bodies: Sequence[dict[str, object]]
) -> list[Phase]:
    """A server's phases: one client, many, one."""
    batch = ("--max-batch", str(options.clients))
    process, address = start_server(options.model, (*words, *batch))
    phases = [Phase(n, options.seconds) for n in (1, options.clients, 1)]
    try:
        for phase in (Phase(options.clients, 2.0), *phases):  # the first warms up
            asyncio.run(run_phase(address, bodies, phase))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    return phases


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", default="reference:mamba2", help="reference:NAME")
    parser.add_argument("--stories", action="store_true", help="to be continued, not questions")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20.0, help="of a phase")
    parser.add_argument("--target-ms", type=float, help="of a token")
    parser.add_argument("--share", type=float, default=0.8, help="of full depth's time")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    random.seed(0)
    name = options.model.removeprefix("reference:")
    depth = read_config(reference_directory(name)).depth
    texts, most = (openings(16), LONG) if options.stories else (questions(16), TOKENS)
    bodies = [{"model": options.model, "prompt": text, "max_tokens": most} for text in texts]
    found = {"full depth": run_server(options, FULL, bodies)}
    busy = percentile(found["full depth"][1].gaps, 0.5)
    target = options.share * busy if options.target_ms is None else options.target_ms
    found["exits"] = run_server(options, EXITS, bodies)
    shedding = (*EXITS, "--target-ms", f"{target:.2f}")
    found[f"exits, target {target:.1f} ms"] = run_server(options, shedding, bodies)
    rows = [phase.row(server, depth) for server, phases in found.items() for phase in phases]
    Console().print(table(options.model, rows))
    if options.json is not None:
        write_json(options.json, {"target_ms": target, "rows": [asdict(row) for row in rows]})


def table(model: str, rows: Sequence[Row]) -> Table:
    """The rows as they came."""
    shown = Table(title=model)
    for title in ("server", "clients", "ms a token", "90% within", "tokens/s", "layers saved"):
        shown.add_column(title, justify="left" if title == "server" else "right")
    for row in rows:
        times = f"{row.median:.2f}", f"{row.p90:.2f}"
        saved = f"{100 * row.layer_saving:.0f}%"
        shown.add_row(row.server, str(row.clients), *times, f"{row.tokens_per_second:.0f}", saved)
    return shown


if __name__ == "__main__":
    main()
