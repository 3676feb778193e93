"""Queues, cancelling, time limits, slow readers and defects under way."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx
import openai
import pytest
from tests.serving.running import Running

from dynexit.inference.deferred import DeferringDecoder
from dynexit.inference.generation import GeneratedToken
from dynexit.inference.settings import GenerationSettings
from dynexit.serving.limits import Limits
from dynexit.serving.mailbox import Mailbox
from dynexit.serving.order import Made, Order, Ticket
from dynexit.serving.replies import CompletionStyle, Head, TokenTexts
from dynexit.serving.reply import Answering, StreamReply
from dynexit.serving.server import Plan

Start = Callable[[Plan], Running]
# the exits' own thresholds, and no end before the last token
ENDLESS = {"model": "reference:mistral", "prompt": "Story: Ann", "max_tokens": 1000}
SHORT = {"model": "reference:mistral", "prompt": "Hello", "max_tokens": 2}


@pytest.fixture
def endless(plan: Plan) -> Plan:
    """A model that never ends a text by itself."""
    return replace(plan, model=replace(plan.model, eos_ids=()))


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def connect(running: Running, body: dict[str, Any]) -> socket.socket:
    """A request sent by hand, whose answer nobody reads yet."""
    host, port = running.url.removeprefix("http://").split(":")
    content = json.dumps(body).encode()
    connection = socket.create_connection((host, int(port)), timeout=30)
    connection.sendall(
        b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n" % len(content) + content
    )
    return connection


@pytest.mark.parametrize("stream", [False, True])
def test_a_row_is_free_when_its_client_goes(start: Start, endless: Plan, stream: bool) -> None:
    one = start(replace(endless, limits=Limits(max_batch=1)))
    connection = connect(one, ENDLESS | {"stream": stream})
    until(lambda: one.engine.running == 1)
    waiting = connect(one, ENDLESS | {"stream": stream})
    until(lambda: one.engine.queued == 1)
    waiting.close()
    connection.close()
    until(lambda: one.engine.running == 0, 1.0)
    until(lambda: one.engine.queued == 0, 1.0)
    assert one.client().completions.create(**SHORT).choices
    assert 'dynexit_requests_total{outcome="cancelled"} 2.0' in metrics(one)


def test_a_full_queue_refuses(start: Start, endless: Plan) -> None:
    small = start(replace(endless, limits=Limits(max_batch=1, max_queue=1)))
    connections = [connect(small, ENDLESS)]
    until(lambda: small.engine.running == 1)
    connections.append(connect(small, ENDLESS))
    until(lambda: small.engine.queued == 1)
    with pytest.raises(openai.RateLimitError) as caught:
        small.client().completions.create(**SHORT)
    assert int(caught.value.response.headers["retry-after"]) >= 1
    assert caught.value.code == "queue_full"
    assert 'dynexit_requests_total{outcome="overload"} 1.0' in metrics(small)
    for connection in connections:
        connection.close()
    until(lambda: small.engine.running == 0)
    assert small.client().completions.create(**SHORT).choices


def test_a_request_takes_no_longer_than_the_limit(start: Start, endless: Plan) -> None:
    hasty = start(replace(endless, limits=Limits(time_limit=0.3)))
    with pytest.raises(openai.APIStatusError) as caught:
        hasty.client().completions.create(**ENDLESS)
    assert caught.value.status_code == 504
    assert caught.value.response.json()["error"]["code"] == "time_limit"
    with pytest.raises(openai.APIError, match="took longer"):
        for _ in hasty.client().completions.create(**ENDLESS, stream=True):
            pass
    assert 'dynexit_requests_total{outcome="timeout"} 2.0' in metrics(hasty)
    until(lambda: hasty.engine.running == 0)


def test_a_reader_who_does_not_read_is_left_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Sending waits for the reader, with the time limit and a moment for the last word."""
    monkeypatch.setattr("dynexit.serving.reply.GRACE", 0.1)

    async def ask() -> bool:
        mailbox = Mailbox()
        order = Order(((1, 2),), GenerationSettings())
        ticket = Ticket(order, 10, mailbox.put)
        mailbox.put([Made(0, GeneratedToken(5, "a", 3, 0.5), "", None)])
        head, style = Head.new("cmpl", "m"), CompletionStyle(TokenTexts(Letters()), None)
        answering = Answering(ticket, mailbox, style, head, 4, 2)
        never = asyncio.Event()

        async def block(*_: Any) -> Any:
            await never.wait()

        reply = StreamReply(answering, 0.2, include_usage=False)
        await asyncio.wait_for(reply({"type": "http"}, block, block), 5)
        return ticket.cancelled

    assert asyncio.run(ask())


class Letters:
    """A tokenizer of as many ids as there are characters."""

    def encode(self, text: str) -> list[int]:
        return list(map(ord, text))

    encode_rendered = encode

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(map(chr, ids))


def test_a_long_prompt_does_not_stall_others(start: Start, endless: Plan) -> None:
    """Tokens of one stream keep coming while another's prompt is read."""
    running = start(replace(endless, limits=Limits(busy_chunk=32)))
    lengths: list[int] = []
    original = running.engine._plain._decoder.prefill

    def prefill(parts: Any, chunk: int, rows: Any) -> None:
        lengths.append(sum(map(len, parts)))
        original(parts, chunk, rows)

    running.engine._plain._decoder.prefill = prefill  # type: ignore[method-assign]
    with running.client().completions.create(**ENDLESS, stream=True) as stream:
        chunks = iter(stream)
        next(chunks)
        lengths.clear()
        other = threading.Thread(
            target=running.client().completions.create,
            kwargs=SHORT | {"prompt": "The dog sat. " * 150},
        )
        other.start()
        while other.is_alive():
            next(chunks)
        other.join()
    assert len(lengths) > 5
    assert max(lengths) <= 32


def test_a_defect_costs_only_what_was_under_way(start: Start, endless: Plan) -> None:
    running = start(endless)
    decoder = running.engine._plain._decoder
    assert isinstance(decoder, DeferringDecoder)
    original = decoder.begin

    def fail(*_: Any) -> Any:
        decoder.begin = original  # type: ignore[method-assign]
        raise RuntimeError("secret words")

    with running.client().completions.create(**ENDLESS, stream=True) as stream:
        chunks = iter(stream)
        next(chunks)
        decoder.begin = fail  # type: ignore[method-assign]
        with pytest.raises(openai.APIError, match="the server failed"):
            list(chunks)
    decoder.begin = fail  # type: ignore[method-assign]
    with pytest.raises(openai.InternalServerError) as caught:
        running.client().completions.create(**SHORT)
    assert "secret" not in caught.value.response.text
    assert running.client().completions.create(**SHORT).choices
    assert 'dynexit_requests_total{outcome="error"} 2.0' in metrics(running)


def test_draining_finishes_what_is_there(start: Start, endless: Plan) -> None:
    running = start(endless)
    with ThreadPoolExecutor() as pool:
        body = ENDLESS | {"max_tokens": 200}
        answer = pool.submit(lambda: running.client().completions.create(**body))
        until(lambda: running.engine.running == 1)
        running.server.drain()
        with pytest.raises(openai.InternalServerError) as caught:
            running.client().completions.create(**SHORT)
        assert caught.value.status_code == 503
        assert httpx.get(running.url + "/health").json()["status"] == "draining"
        assert answer.result().usage.completion_tokens == 200
    until(lambda: running.server.should_exit)


def metrics(running: Running) -> str:
    return httpx.get(running.url + "/metrics").text


def test_metrics(start: Start, plan: Plan) -> None:
    running = start(plan)
    made = running.client().completions.create(**SHORT | {"max_tokens": 5, "temperature": 0})
    exits = made.dynexit["exit_layers"]  # type: ignore[attr-defined]
    page = metrics(running)
    for line in (
        'dynexit_requests_total{outcome="ok"} 1.0',
        "dynexit_queue_length 0.0",
        "dynexit_time_to_first_token_seconds_count 1.0",
        f"dynexit_time_per_token_seconds_count {len(exits) - 1:.1f}",
        f'dynexit_exit_layer_bucket{{le="12.0"}} {len(exits):.1f}',
        f"dynexit_exit_layer_sum {sum(exits):.1f}",
        "dynexit_shedding_level 0.0",
    ):
        assert line in page
    until(lambda: "dynexit_running 0.0" in metrics(running))
    saving = next(line for line in page.splitlines() if line.startswith("dynexit_layer_saving"))
    assert float(saving.split()[1]) == pytest.approx(1 - sum(exits) / len(exits) / 12)
