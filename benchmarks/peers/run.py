"""Decoders side by side on one checkpoint: dynexit, transformers, llama.cpp, economize and TIDE.

    make bench-peers        # once: .venv-peers with the others
    python benchmarks/peers/run.py --python .venv-peers/bin/python --shape mistral-1b --work /tmp/p

Each system has a process with the same weights, which are random unless --checkpoint names others;
it decodes greedily after a prompt of 16 tokens, one system at a time, all of them in each round.
Medians over the rounds count. A system that is missing or fails has a row with the reason. With
--only, ratios are to what is left. --systems lossless compares drafts that are verified instead.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lossless_systems import lossless_systems
from prepare import Weights, checkpoint_of
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rounds import Crew, measure
from rows import rows_of
from systems import System, systems
from table import print_rows

from dynexit.errors import UserError
from dynexit.evaluation.bench.limits import machine
from dynexit.evaluation.bench.shapes import shape_config
from dynexit.files import read_json, write_json

SHAPES = ("mistral-1b", "mamba2-1b", "mamba-1b")
SYSTEMS = {"decoding": systems, "lossless": lossless_systems}


def main() -> None:
    options = parse()
    try:
        report(options)
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--shape", choices=SHAPES, default="mistral-1b")
    parser.add_argument("--checkpoint", type=Path, help="bf16 weights to use instead")
    parser.add_argument("--python", type=Path, default=Path(".venv-peers/bin/python"))
    parser.add_argument("--work", type=Path, required=True, help="folder with 8 GB to spare")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=32, help="new tokens in a round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--systems", choices=SYSTEMS, default="decoding")
    parser.add_argument("--only", help="names or parts of them, such as transformers,llama")
    parser.add_argument("--json", type=Path, help="file for the rows")
    return parser.parse_args()


def report(options: argparse.Namespace) -> None:
    """Measure, print the table, write the JSON."""
    if options.rounds < 1 or options.tokens < 2:
        raise UserError("give --rounds of at least 1 and --tokens of at least 2")
    options.work.mkdir(parents=True, exist_ok=True)
    checkpoint = options.checkpoint or checkpoint_of(
        shape_config(options.shape), options.work / options.shape
    )
    config = read_json(checkpoint / "config.json")
    known = SYSTEMS[options.systems](config["model_type"], config["num_hidden_layers"])
    asked = chosen(known, options.only)
    weights = Weights(checkpoint.resolve(), options.work.resolve(), options.python)
    logs = options.work / "logs"
    turns = (options.rounds + 1) * len(asked)
    with Crew(weights, options.python, options.threads, logs) as crew, progress(turns) as tick:
        found = measure(crew, asked, options.rounds, options.tokens, tick)
    rows = rows_of(found)
    told = {
        "suite": "peers",
        "systems": options.systems,
        "checkpoint": checkpoint.name,
        "family": config["model_type"],
        "layers": config["num_hidden_layers"],
        "rounds": options.rounds,
        "tokens": options.tokens,
        "machine": {**machine(), "threads": options.threads},
        "versions": crew.versions,
    }
    if options.json is not None:
        write_json(options.json, told | {"rows": rows})
    print_rows(rows, title(told))


def chosen(everything: list[System], only: str | None) -> list[System]:
    """The systems whose row contains one of the names."""
    if only is None:
        return everything
    parts = [part.strip().lower() for part in only.split(",")]
    kept = [one for one in everything if any(part in one.row.lower() for part in parts)]
    if not kept:
        rows = ", ".join(dict.fromkeys(one.row for one in everything))
        raise UserError(f"--only {only}: no system is called so; there are {rows}")
    return kept


def title(told: dict[str, Any]) -> str:
    machine, versions = told["machine"], told["versions"]
    return (
        f"{told['checkpoint']}: {told['layers']} layers, batch 1, {told['tokens']} tokens, "
        f"{told['rounds']} rounds\n{machine['cpu']}, {machine['threads']} threads, "
        f"{machine['date']}\n" + ", ".join(f"{name} {v}" for name, v in versions.items())
    )


@contextmanager
def progress(total: int) -> Iterator[Callable[[str], None]]:
    """A bar on standard error; yields what counts one and tells its name."""
    name = TextColumn("{task.description}")
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), name)
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        line = bar.add_task("", total=total, completed=-1)
        yield lambda name: bar.update(line, description=name, advance=1)


if __name__ == "__main__":
    main()
