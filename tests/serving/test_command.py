"""``dynexit serve`` as a process: start, signals, mistakes."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest

from dynexit.cli import app

COMMAND = [sys.executable, "-m", "dynexit", "serve"]
WORDS = ["--port", "0", "--device", "cpu", "--name", "small", "--threads", "1"]


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    started = subprocess.Popen(
        [*COMMAND, "reference:mistral", *WORDS],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield started
    started.kill()
    started.communicate()


def address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("small at ")
    assert "judge mamba at layers 2,3, state recompute, certified risks 0.01" in line
    found = re.search(r"http://[\d.:]+", line)
    assert found is not None
    return found[0]


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_signal_ends_it_when_all_is_answered(
    process: subprocess.Popen[str], number: signal.Signals
) -> None:
    url = address(process)
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    body = {"model": "small", "prompt": "SECRET words", "max_tokens": 300}

    def ask() -> int:
        made = client.completions.create(**body, temperature=1.5, seed=3, n=4)
        return sum(choice.finish_reason is not None for choice in made.choices)

    with ThreadPoolExecutor() as pool:
        answer = pool.submit(ask)
        until = time.monotonic() + 30
        while httpx.get(f"{url}/health").json()["running"] == 0 and not answer.done():
            assert time.monotonic() < until
        process.send_signal(number)
        assert answer.result(60) == 4
    assert process.wait(30) == 0
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.read() == ""
    lines = [json.loads(line) for line in process.stderr.read().splitlines()]
    told = next(line for line in lines if line.get("path") == "/v1/completions")
    assert (told["outcome"], told["status"], told["prompt_tokens"] > 0) == ("ok", 200, True)
    assert "SECRET" not in json.dumps(lines)


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The one line that a mistake is told in."""

    def run(*arguments: str) -> str:
        with pytest.raises(SystemExit) as ended:
            app(["serve", *arguments], prog_name="dynexit")
        told = capsys.readouterr()
        assert ended.value.code == 2
        assert told.out == ""
        assert told.err.count("\n") == 1
        return told.err

    return run


def test_a_port_that_is_taken(refused: Callable[..., str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = refused("reference:mistral", "--port", str(port))
    assert f"cannot listen at 127.0.0.1:{port} (Address already in use)" in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--port", "99999"], "cannot listen at 127.0.0.1:99999"),
        (["--host", "no.such.host.invalid"], "cannot listen at no.such.host.invalid"),
        (["--max-batch", "0"], "--max-batch 0: give at least 1"),
        (["--time-limit", "nan"], "--time-limit nan: give seconds above 0"),
        (["--threads", "0"], "--threads 0: give at least 1"),
        (["--port", "0", "--target-ms", "20", "--judge", "none"], "--target-ms needs certified"),
        (["--port", "0", "--exits", "/nowhere"], "/nowhere"),
        (["--port", "0", "--api-key", " "], "--api-key must be"),
        (["--cors", "https://a.example/"], "--cors https://a.example/: give an origin"),
    ],
)
def test_mistakes_take_one_line(
    refused: Callable[..., str], arguments: list[str], told: str
) -> None:
    assert told in refused("reference:mistral", *arguments)
