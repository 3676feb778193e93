"""Load on `dynexit serve`: many clients, some of them badly behaved, every answer checked.

The library's answers are made first, then a server of its own is started. Clients ask for as long
as told: most read their answer, some go away in the middle, some send what is no request, some read
slowly. Every answer must equal the library's, text and exit layers. Before the load: the time to
the first token beside the library's own, and tokens per second with one client and with eight, of
questions (most of the work is reading them) and of stories to be continued (most is writing).

    .venv/bin/python benchmarks/serve_load.py --clients 32 --seconds 300 --json load.json

Exits with 1 where an answer is wrong or lost, or memory grew by more than 2 %.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import psutil
import torch

from dynexit.exits.choice import Wish, choose
from dynexit.exits.policy import ExitPolicy
from dynexit.files import write_json
from dynexit.inference.generate import generate, stream
from dynexit.inference.settings import GenerationSettings
from dynexit.models.loading import Model, load_model
from dynexit.reference.corpus.item import TASKS, prompt
from dynexit.reference.corpus.mixture import held_out_items

KINDS = {"stream": 55, "whole": 15, "cancel": 12, "malformed": 12, "slow": 6}
BROKEN = (
    b"",
    b"{",
    b"\xff\xfe\x00",
    b"[" * 5000,
    b'{"model": "gpt-4", "prompt": "a"}',
    b'{"model": "reference:mistral", "prompt": "a", "temperature": NaN}',
    b'{"model": "reference:mistral", "prompt": "\\ud800"}',
    b'{"model": "reference:mistral", "prompt": "a", "n": -1}',
)
TOKENS = 32  # of an answer at most
LONG = 64  # of a story
ROUNDS = 3  # of throughput
TRIALS = 20  # of the time to the first token
PART = 0.2  # share of the time at whose ends memory is compared, after as much to warm up
GROWTH = 0.02


@dataclass(frozen=True)
class Case:
    """A request and the library's answer to it."""

    body: dict[str, Any]
    text: str
    exits: list[int]


@dataclass
class Seen:
    """What clients met. ``gaps`` and ``firsts`` are seconds to the next and the first token."""

    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)
    tokens: int = 0

    def compare(self, case: Case, text: str, exits: list[int]) -> None:
        """Count an answer as right or wrong."""
        right = (text, exits) == (case.text, case.exits)
        self.outcomes["right" if right else "wrong"] += 1
        if not right:
            told = f"{text!r} {exits} instead of {case.text!r} {case.exits}"
            self.wrong.append(f"{case.body}: {told}")


class Address:
    """Where the server listens. HTTP is written by hand, so that clients cost little."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port

    @asynccontextmanager
    async def ask(self, body: bytes) -> AsyncIterator[tuple[int, asyncio.StreamReader, float]]:
        """The status of the answer, where its body can be read, and when it was asked for: once
        connected, as clients keep their connections."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        begin = time.perf_counter()
        try:
            writer.write(
                b"POST /v1/completions HTTP/1.1\r\nhost: load\r\nconnection: close\r\n"
                b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body
            )
            await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
            yield int(head.split(None, 2)[1]), reader, begin
        finally:
            writer.close()


async def events(reader: asyncio.StreamReader) -> AsyncIterator[dict[str, Any]]:
    """Objects of a stream of server-sent events."""
    while line := await reader.readline():
        if line.startswith(b"data: {"):
            yield json.loads(line[6:])


async def read_stream(address: Address, case: Case, seen: Seen, pause: float = 0.0) -> None:
    """Read a stream to its end, waiting that long before each token, and compare."""
    text, exits, end = "", list[int](), None
    async with address.ask(json.dumps(case.body | {"stream": True}).encode()) as asked:
        status, reader, last = asked
        async for event in events(reader):
            if "error" in event:
                break
            if event["choices"][0]["finish_reason"] is not None:
                end = event["dynexit"]["exit_layers"]
                continue
            await asyncio.sleep(pause)
            now = time.perf_counter()
            if not pause:
                (seen.gaps if exits else seen.firsts).append(now - last)
            last = now
            exits.append(event["dynexit"]["exit_layer"])
            text += event["choices"][0]["text"]
            seen.tokens += 1
    if end is None:
        seen.outcomes[f"lost ({status})"] += 1
    else:
        seen.compare(case, text, exits if exits == end else end)


async def read_whole(address: Address, case: Case, seen: Seen) -> None:
    """Wait for an answer in one piece and compare."""
    async with address.ask(json.dumps(case.body).encode()) as (status, reader, _):
        body = await reader.read()
    if status != 200:
        seen.outcomes[f"lost ({status})"] += 1
        return
    answer = json.loads(body)
    seen.tokens += answer["usage"]["completion_tokens"]
    seen.compare(case, answer["choices"][0]["text"], answer["dynexit"]["exit_layers"])


async def go_away(address: Address, case: Case, seen: Seen) -> None:
    """Leave before the first token, or after a few."""
    body = json.dumps(case.body | {"stream": True, "max_tokens": 500}).encode()
    try:
        async with asyncio.timeout(random.choice((0.005, 0.05, 0.2))), address.ask(body) as answer:
            async for _ in events(answer[1]):
                pass
    except TimeoutError:
        pass
    seen.outcomes["went away"] += 1


async def be_broken(address: Address, seen: Seen) -> None:
    """Send what is no request; a status from 400 to 499 is right."""
    async with address.ask(random.choice(BROKEN)) as (status, reader, _):
        await reader.read()
    seen.outcomes["refused" if 400 <= status < 500 else f"not refused ({status})"] += 1


async def client(address: Address, cases: list[Case], seen: Seen, end: float) -> None:
    """Ask until time is over."""
    kinds, weights = list(KINDS), list(KINDS.values())
    while time.perf_counter() < end:
        kind, case = random.choices(kinds, weights)[0], random.choice(cases)
        try:
            if kind == "malformed":
                await be_broken(address, seen)
            elif kind == "cancel":
                await go_away(address, case, seen)
            elif kind == "whole":
                await read_whole(address, case, seen)
            else:
                await read_stream(address, case, seen, 0.1 if kind == "slow" else 0.0)
        except (OSError, asyncio.IncompleteReadError, ValueError, KeyError) as error:
            seen.outcomes[f"lost ({type(error).__name__})"] += 1


async def load(
    address: Address, cases: list[Case], clients: int, seconds: float, process: psutil.Process
) -> tuple[Seen, list[float]]:
    """What so many clients met, and the server's resident memory in bytes, twice a second."""
    seen, memory, end = Seen(), list[float](), time.perf_counter() + seconds

    async def look() -> None:
        while time.perf_counter() < end:
            memory.append(process.memory_info().rss)
            await asyncio.sleep(0.5)

    await asyncio.gather(look(), *(client(address, cases, seen, end) for _ in range(clients)))
    return seen, memory


async def throughput(address: Address, cases: list[Case], clients: int, seconds: float) -> float:
    """Tokens per second of clients that only stream."""
    seen, begin = Seen(), time.perf_counter()

    async def ask() -> None:
        while time.perf_counter() - begin < seconds:
            await read_stream(address, random.choice(cases), seen)

    await asyncio.gather(*(ask() for _ in range(clients)))
    return seen.tokens / (time.perf_counter() - begin)


def rates_of(address: Address, cases: list[Case], seconds: float) -> dict[str, float]:
    """Tokens per second of one client and of eight, medians of rounds in turn, and their ratio."""
    rounds = [
        [asyncio.run(throughput(address, cases, clients, seconds)) for clients in (1, 8)]
        for _ in range(ROUNDS)
    ]
    one, eight = map(statistics.median, zip(*rounds, strict=True))
    return {"1": one, "8": eight, "ratio": eight / one}


def first_token(
    address: Address, cases: list[Case], model: Model, policy: ExitPolicy | None
) -> dict[str, float]:
    """Milliseconds to the first token, the server's and the library's in turn, as medians."""
    served, own = list[float](), list[float]()
    for case in random.choices(cases, k=TRIALS):
        served.append(first_of_server(address, case.body))
        own.append(first_of_library(model, case.body["prompt"], policy))
    return {
        "server": 1000 * statistics.median(served),
        "library": 1000 * statistics.median(own),
    }


def first_of_server(address: Address, body: dict[str, Any]) -> float:
    """Seconds to the first token of a request, whose answer is read to its end."""
    seen = Seen()
    asyncio.run(read_stream(address, Case(body, "", []), seen))
    return seen.firsts[0]


def first_of_library(model: Model, prompt: str, policy: ExitPolicy | None) -> float:
    """Seconds to the first token of the library's answer."""
    begin = time.perf_counter()
    next(iter(stream(model, prompt, GenerationSettings(), policy)))
    return time.perf_counter() - begin


def make_cases(model: Model, policy: ExitPolicy | None, name: str, count: int) -> list[Case]:
    """Questions with the library's answers."""
    return answered(model, policy, name, questions(count), TOKENS)


def make_stories(model: Model, policy: ExitPolicy | None, name: str, count: int) -> list[Case]:
    """First sentences, and how the library goes on."""
    return answered(model, policy, name, openings(count), LONG)


def questions(count: int) -> list[str]:
    """So many questions of each reference task."""
    return [prompt(item, 0) for task in TASKS for item in held_out_items(task, count, seed=3)]


def openings(count: int) -> list[str]:
    """The first sentences of so many stories."""
    texts = [prompt(item, 0) for item in held_out_items("stories", count, seed=3)]
    return [text.split(".")[0] + "." for text in texts]


def answered(
    model: Model, policy: ExitPolicy | None, name: str, texts: Sequence[str], tokens: int
) -> list[Case]:
    """Requests, greedy and drawn in turn, with the library's answers."""
    cases = []
    for seed, text in enumerate(texts):
        temperature = (0.0, 0.7)[seed % 2]
        made = GenerationSettings(tokens, temperature=temperature, seed=seed)
        answer = generate(model, [text], made, policy)[0]
        body = {"model": name, "prompt": text, "max_tokens": tokens}
        body |= {"temperature": temperature, "seed": seed}
        exits = [token.exit_layer for token in answer.tokens]
        cases.append(Case(body, answer.text, exits))
    return cases


def percentile(values: list[float], share: float) -> float:
    """In milliseconds."""
    ordered = sorted(values)
    return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def growth(memory: list[float]) -> float:
    """Memory at the end against that after warming up, as a share."""
    part = max(1, int(PART * len(memory)))
    early, late = statistics.median(memory[part : 2 * part]), statistics.median(memory[-part:])
    return late / early - 1.0


def start_server(
    model: str, words: Sequence[str], log: IO[str] | int = subprocess.DEVNULL
) -> tuple[subprocess.Popen[str], Address]:
    """The server in a process of its own."""
    command = [sys.executable, "-m", "dynexit", "serve", model, "--port", "0", "--device", "cpu"]
    process = subprocess.Popen([*command, *words], stdout=subprocess.PIPE, stderr=log, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"http://([\d.]+):(\d+)", line)
    assert found is not None, line
    return process, Address(found[1], int(found[2]))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All numbers."""
    random.seed(0)
    model = load_model(options.model, getattr(torch, options.dtype))
    policy = None
    words = ["--dtype", options.dtype, "--max-batch", str(options.max_batch)]
    words += ["--judge", options.judge]
    if options.judge != "none":
        policy = choose(model, Wish(judge=options.judge, state=options.state)).policy
        words += ["--state", options.state]
    cases = make_cases(model, policy, options.model, options.cases)
    stories = make_stories(model, policy, options.model, options.cases)
    process, address = start_server(options.model, words, options.log)
    try:
        asyncio.run(throughput(address, cases, 8, 1.0))  # everything has been used once
        firsts = first_token(address, cases, model, policy)
        rates = {
            name: rates_of(address, asked, options.rate_seconds)
            for name, asked in (("questions", cases), ("stories", stories))
        }
        watched = psutil.Process(process.pid)
        seen, memory = asyncio.run(load(address, cases, options.clients, options.seconds, watched))
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
    return {
        "machine": {"cores": psutil.cpu_count(), "torch": torch.__version__},
        "clients": options.clients,
        "seconds": options.seconds,
        "outcomes": dict(seen.outcomes),
        "wrong": seen.wrong[:10],
        "lost": sum(n for name, n in seen.outcomes.items() if name.startswith(("lost", "not"))),
        "memory_growth": growth(memory),
        "memory_bytes": max(memory),
        "token_ms": {"p50": percentile(seen.gaps, 0.5), "p99": percentile(seen.gaps, 0.99)},
        "first_token_ms": firsts | {"loaded_p50": percentile(seen.firsts, 0.5)},
        "tokens_per_second": rates,
        "exit_code": code,
    }


def main() -> int:
    """Measure, print a table, write the JSON object where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="reference:mistral")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--judge", default="mamba", help="or none, for full depth")
    parser.add_argument("--state", default="recompute")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--rate-seconds", type=float, default=5.0)
    parser.add_argument("--cases", type=int, default=16, help="requests of each reference task")
    parser.add_argument("--max-batch", type=int, default=8)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--log", type=argparse.FileType("w"), default=subprocess.DEVNULL)
    options = parser.parse_args()
    found = measure(options)
    for name, value in found.items():
        print(f"{name:18} {json.dumps(value)}")
    if options.json is not None:
        write_json(options.json, found)
    return int(bool(found["wrong"] or found["lost"]) or found["memory_growth"] > GROWTH)


if __name__ == "__main__":
    sys.exit(main())
