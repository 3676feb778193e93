"""A real server in a thread of this process, and the official client for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import openai

from dynexit.serving.engine import Engine
from dynexit.serving.server import Plan, Server, build, listen

START = 20.0  # seconds


@dataclass
class Running:
    """A server in a thread of this process."""

    plan: Plan
    server: Server
    engine: Engine
    url: str

    def client(self, key: str = "none") -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=60)


def run(plan: Plan) -> Iterator[Running]:
    """A server of that plan until the caller is done with it."""
    place = listen("127.0.0.1", 0)
    server, engine = build(plan)
    engine.start()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [place]}, daemon=True)
    thread.start()
    until = time.monotonic() + START
    while not server.started:
        assert time.monotonic() < until
        time.sleep(0.01)
    host, port = place.getsockname()[:2]
    yield Running(plan, server, engine, f"http://{host}:{port}")
    server.should_exit = server.force_exit = True
    thread.join(START)
    engine.stop()
    assert not thread.is_alive()
