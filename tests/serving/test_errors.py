"""What a server says to requests that it cannot or may not answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.serving.running import Running

from dynexit.serving.limits import Limits
from dynexit.serving.server import Plan

Start = Callable[[Plan], Running]
GOOD = {"model": "reference:mistral", "prompt": "Hello", "max_tokens": 2}
JSON = {"content-type": "application/json"}


def post(running: Running, **arguments: Any) -> httpx.Response:
    path = arguments.pop("path", "/v1/completions")
    return httpx.post(running.url + path, timeout=30, **arguments)


def is_error(response: httpx.Response, status: int) -> dict[str, Any]:
    """The error of a response, which must have that status and OpenAI's shape."""
    assert response.status_code == status, response.text
    body = response.json()
    assert list(body) == ["error"]
    error: dict[str, Any] = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str)
    assert "Traceback" not in response.text
    return error


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": 3}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"n": 0}, "n"),
        ({"n": 100}, "n"),
        ({"stop": [""]}, "stop"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": [3776]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": {"a": 1}}, "prompt"),
        ({"prompt": "\ud800"}, "prompt"),
        ({"stop": "\udfff"}, "stop"),
        ({"threshold": -1}, "threshold"),
        ({"threshold": 0.5, "risk": 0.1}, "risk"),
        ({"risk": 0.123}, "risk"),
        ({"lossless": True, "logprobs": 1}, "logprobs"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"presence_penalty": 1}, "presence_penalty"),
        ({"suffix": "end"}, "suffix"),
        ({"best_of": 3}, "best_of"),
        ({"echo": True, "logprobs": 1}, "echo"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"seed": 0.5}, "seed"),
        ({"model": None}, "model"),
    ],
)
def test_a_wrong_field_is_named(server: Running, change: dict[str, Any], param: str) -> None:
    import json

    body = json.dumps(GOOD | change).encode()
    error = is_error(post(server, content=body, headers=JSON), 400)
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b'{"model": "\xff\xfe"}',
        b"\xff" * 10,
        b'{"model": NaN}',
        b"[" * 100_000,
        b'{"model": "reference:mistral", "prompt": "a", "temperature": NaN}',
        b'{"model": "reference:mistral", "prompt": "a", "temperature": Infinity}',
        b'{"model": "reference:mistral", "prompt": "a", "max_tokens": 1' + b"0" * 5000 + b"}",
        b'{"model": "reference:mistral", "prompt": "a", "max_tokens": 1' + b"0" * 300 + b"}",
    ],
)
def test_a_body_that_is_no_request(server: Running, body: bytes) -> None:
    is_error(post(server, content=body, headers=JSON), 400)
    is_error(post(server, content=body, headers=JSON, path="/v1/chat/completions"), 400)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(body=st.binary(max_size=200))
def test_any_bytes_are_no_defect(server: Running, body: bytes) -> None:
    is_error(post(server, content=body, headers=JSON), 400)


def test_a_form_is_not_taken_for_json(server: Running) -> None:
    """Any page could send one without asking."""
    is_error(post(server, content=b'{"model": "x"}', headers={"content-type": "text/plain"}), 400)


def test_a_model_that_is_not_there(server: Running) -> None:
    error = is_error(post(server, json=GOOD | {"model": "gpt-4"}), 404)
    assert error["code"] == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        server.client().completions.create(model="gpt-4", prompt="a")


def test_paths_that_are_not_there(server: Running) -> None:
    is_error(httpx.get(server.url + "/v1/nothing"), 404)
    is_error(httpx.get(server.url + "/v1/../../etc/passwd"), 404)
    is_error(httpx.delete(server.url + "/v1/models"), 405)


def test_a_prompt_beyond_the_context(server: Running) -> None:
    for change in ({"prompt": "word " * 3000}, {"max_tokens": 1024}, {"max_tokens": 10**30}):
        error = is_error(post(server, json=GOOD | change), 400)
        assert error["code"] == "context_length_exceeded"
    chat = {"model": GOOD["model"], "messages": [{"role": "user", "content": "word " * 3000}]}
    error = is_error(post(server, json=chat, path="/v1/chat/completions"), 400)
    assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")


@pytest.mark.parametrize(
    "message",
    [
        {"role": "king", "content": "a"},
        {"content": "a"},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
        {"role": "user", "content": "\ud800"},
        "hello",
    ],
)
def test_messages_that_are_none(server: Running, message: Any) -> None:
    import json

    body = json.dumps({"model": GOOD["model"], "messages": [message]}).encode()
    error = is_error(post(server, content=body, headers=JSON, path="/v1/chat/completions"), 400)
    assert error["param"] == "messages"


def test_a_body_too_large(start: Start, plan: Plan) -> None:
    small = start(replace(plan, limits=Limits(max_body=1000)))
    assert post(small, json=GOOD).status_code == 200
    error = is_error(post(small, json=GOOD | {"prompt": "a" * 1000}), 413)
    assert error["code"] == "body_too_large"

    def pieces() -> Any:  # without a length told before
        for _ in range(50):
            yield b"a" * 100

    is_error(post(small, content=pieces(), headers=JSON), 413)


def test_a_body_that_does_not_arrive(start: Start, plan: Plan) -> None:
    import socket

    hasty = start(replace(plan, limits=Limits(body_time=0.2)))
    host, port = hasty.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(
            b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"content-length: 100\r\n\r\n{"
        )
        assert b" 408 " in connection.recv(1000).splitlines()[0]


def test_a_key(start: Start, plan: Plan) -> None:
    locked = start(replace(plan, key="secret"))
    made = locked.client("secret").completions.create(**GOOD)
    assert made.choices
    for wrong in ("Secret", "secre", "secret2"):
        with pytest.raises(openai.AuthenticationError):
            locked.client(wrong).completions.create(**GOOD)
    for header in (b"", b"Bearer", b"secret", b"Bearer \xe9", b"Basic secret"):
        is_error(post(locked, json=GOOD, headers={b"authorization": header}), 401)
    is_error(httpx.get(locked.url + "/v1/models"), 401)
    is_error(httpx.get(locked.url + "/metrics"), 401)
    assert httpx.get(locked.url + "/health").status_code == 200


def test_other_pages_may_ask_only_where_told(start: Start, plan: Plan, server: Running) -> None:
    origin = {"origin": "https://chat.example"}
    wanted = origin | {"access-control-request-method": "POST"}
    answer = httpx.options(server.url + "/v1/completions", headers=wanted)
    assert "access-control-allow-origin" not in answer.headers
    open_to_one = start(replace(plan, origins=("https://chat.example",)))
    answer = httpx.options(open_to_one.url + "/v1/completions", headers=wanted)
    assert answer.headers["access-control-allow-origin"] == "https://chat.example"
    answer = post(open_to_one, json=GOOD, headers=origin)
    assert answer.headers["access-control-allow-origin"] == "https://chat.example"
    answer = post(open_to_one, json=GOOD, headers={"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in answer.headers


def test_full_depth_has_no_thresholds(start: Start, plan: Plan) -> None:
    from dynexit.serving.depths import Depths

    full = start(replace(plan, depths=Depths()))
    made = post(full, json=GOOD).json()
    assert set(made["dynexit"]["exit_layers"]) == {12}
    error = is_error(post(full, json=GOOD | {"threshold": 0.5}), 400)
    assert "full depth" in error["message"]


def test_without_a_template_there_is_no_chat(start: Start, plan: Plan) -> None:
    plain = start(replace(plan, template=None))
    chat = {"model": GOOD["model"], "messages": [{"role": "user", "content": "Hello"}]}
    error = is_error(post(plain, json=chat, path="/v1/chat/completions"), 400)
    assert "no chat template" in error["message"]
