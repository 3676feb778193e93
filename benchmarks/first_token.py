"""Time to the first token of a warm server beside that of the library, in turn on one machine.

    .venv/bin/python benchmarks/first_token.py --shape mistral-1b --work /tmp/first-token
    .venv/bin/python benchmarks/first_token.py

With --shape the model has random bf16 weights of that shape (written once) and runs at full depth;
without, it is reference:mistral in bf16 with its Mamba judge. Prompts are questions of some forty
tokens. The server has a process of its own; the client connects before the clock starts, as clients
keep their connections. The last row is a request that computes nothing, what HTTP takes by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import signal
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from serve_load import (
    Address,
    first_of_library,
    first_of_server,
    percentile,
    questions,
    start_server,
)

from dynexit.commands.output import counting
from dynexit.evaluation.bench.shapes import SHAPES
from dynexit.evaluation.bench.subject import shape_directory
from dynexit.exits.choice import Wish, choose
from dynexit.models.loading import load_model
from dynexit.reference.pair import reference_directory

REFERENCE = "reference:mistral"
WARMING = 5  # rounds that do not count
REST = 0.05  # seconds between requests
TOKENS = 4  # of an answer; only the first is timed


def shaped(shape: str, work: Path) -> Path:
    """A random checkpoint of a shape, with a tokenizer so that it can be asked in words."""
    directory = shape_directory(shape, work, counting)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(reference_directory("mistral") / name, directory / name)
    return directory


async def card(address: Address) -> float:
    """Seconds that the list of models takes."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    begin = time.perf_counter()
    writer.write(b"GET /v1/models HTTP/1.1\r\nhost: first\r\nconnection: close\r\n\r\n")
    await reader.read()
    writer.close()
    return time.perf_counter() - begin


def measure(model_name: str, judge: str, rounds: int) -> dict[str, list[float]]:
    """Seconds of each way, a value a round."""
    model, policy = load_model(model_name, torch.bfloat16), None
    if judge != "none":
        policy = choose(model, Wish(judge=judge)).policy
    words = ["--dtype", "bf16", "--judge", judge, "--state", "recompute", "--name", "first"]
    process, address = start_server(model_name, words)
    body = {"model": "first", "max_tokens": TOKENS}
    ways: dict[str, Callable[[str], float]] = {
        "library": lambda text: first_of_library(model, text, policy),
        "server": lambda text: first_of_server(address, body | {"prompt": text}),
        "list of models": lambda _: asyncio.run(card(address)),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    texts = questions(4)
    try:
        for number in range(WARMING + rounds):
            text = texts[number % len(texts)]
            for name in random.sample(list(ways), len(ways)):
                seconds = ways[name](text)
                if number >= WARMING:
                    times[name].append(seconds)
                time.sleep(REST)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    return times


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES)
    parser.add_argument("--work", type=Path, default=Path("first-token"), help="for checkpoints")
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    if options.shape is None:
        name, judge = REFERENCE, "mamba"
    else:
        name, judge = str(shaped(options.shape, options.work)), "none"
    times = measure(name, judge, options.rounds)
    own = statistics.median(times["library"])
    table = Table(title=f"first token, {options.shape or name}, {options.rounds} rounds")
    for column in ("", "median ms", "10% within", "90% within", "of the library's"):
        table.add_column(column, justify="right" if column else "left")
    for way, seconds in times.items():
        spread = [f"{percentile(seconds, share):.1f}" for share in (0.5, 0.1, 0.9)]
        table.add_row(way, *spread, f"{statistics.median(seconds) / own:.2f}")
    Console(highlight=False).print(table)


if __name__ == "__main__":
    main()
