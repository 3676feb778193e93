"""Bodies of requests, sent to a real server of a tiny model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from checkpoints import make_checkpoint
from dynexit.errors import UserError
from dynexit.exits.choice import Wish, choose
from dynexit.inference.chat_template import questions_template
from dynexit.models.loading import load_model
from dynexit.serving.depths import Depths
from dynexit.serving.limits import Limits
from dynexit.serving.server import Plan
from fuzz import inputs
from fuzz.targets import Made
from serving.running import Running, run

LIMITS = Limits(max_batch=4, max_queue=16, max_context=48, time_limit=20.0, max_body=1 << 16)
_SHARED: dict[str, Any] = {
    "model": "tiny",
    "temperature": 0.7,
    "top_p": 0.9,
    "n": 1,
    "seed": 3,
    "stop": ["\n", "x"],
    "stream": False,
    "threshold": 0.5,
    "lossless": None,
    "max_tokens": 4,
}
COMPLETIONS = [
    json.dumps(_SHARED | {"prompt": "two words", "echo": True, "top_k": 3, "min_p": 0.1}).encode(),
    json.dumps(_SHARED | {"prompt": [1, 2, 3], "stream": True, "lossless": True}).encode(),
    json.dumps({"model": "tiny", "prompt": ["a", "b"], "logprobs": 2, "max_tokens": 2}).encode(),
]
CHATS = [
    json.dumps(
        _SHARED
        | {
            "messages": [
                {"role": "system", "content": "Be short."},
                {"role": "user", "content": "a"},
            ]
        }
    ).encode(),
    json.dumps(
        {
            "model": "tiny",
            "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}],
            "max_completion_tokens": 3,
            "logprobs": True,
            "top_logprobs": 2,
            "stream": True,
            "stream_options": {"include_usage": True},
            "response_format": {"type": "text"},
        }
    ).encode(),
]


class Broken(Exception):
    """The server said that the fault was its own, or that it is no longer well."""


def bodies(path: str, seeds: list[bytes]) -> Callable[[Path], Made]:
    """A target that posts bodies to ``path`` of a server, which lives as long as the process."""

    def make(place: Path) -> Made:
        model = load_model(str(make_checkpoint(place, "mistral", depth=3)))
        policy = choose(model, Wish(judge="margin", layers=(1, 2))).policy
        plan = Plan(model, "tiny", Depths(policy), questions_template(), LIMITS)
        held: Iterator[Running] = run(plan)
        running = next(held)
        client = httpx.Client(base_url=running.url, timeout=60)

        def parse(content: bytes) -> None:
            assert held is not None  # a generator that is dropped ends the server
            answer = client.post(
                path, content=content, headers={"content-type": "application/json"}
            )
            told = answer.text
            if answer.status_code >= 500 or '"type":"server_error"' in told.replace(" ", ""):
                raise Broken(f"{answer.status_code}: {told[:300]}")
            if not running.engine.alive:
                raise Broken("the engine has ended")
            if answer.status_code != 200:
                raise UserError(str(answer.json()["error"]["message"]))

        return inputs.documents, seeds, parse

    return make


SERVERS = {
    "completions": bodies("/v1/completions", COMPLETIONS),
    "chat": bodies("/v1/chat/completions", CHATS),
}
