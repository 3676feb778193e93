"""What stands before the routes: the size of bodies and the API key."""

from __future__ import annotations

import asyncio
import hmac

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dynexit.serving.problem import Problem

GUARDED = ("/v1/", "/metrics")


def problem_response(problem: Problem) -> JSONResponse:
    """The HTTP response that tells of a problem."""
    return JSONResponse(problem.body(), problem.status, problem.headers())


class BodyLimit:
    """Reads a body before anything else sees it: of so many bytes, in so many seconds."""

    def __init__(self, app: ASGIApp, most: int, seconds: float) -> None:
        self.app = app
        self.most = most
        self.seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self.app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self.seconds):
                message = await self._read(scope, receive)
        except TimeoutError:
            slow = Problem(408, f"the body did not arrive within {self.seconds:g} s")
            await problem_response(slow)(scope, receive, send)
        except Problem as problem:
            await problem_response(problem)(scope, receive, send)
        else:
            await self.app(scope, _again(message, receive), send)

    async def _read(self, scope: Scope, receive: Receive) -> Message:
        """The whole body as one message, or the client's leaving."""
        told = Headers(scope=scope).get("content-length", "0")
        if told.isdecimal() and int(told) > self.most:
            raise self._too_large()
        parts: list[bytes] = []
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return message
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            more = message.get("more_body", False)
            if size > self.most:
                raise self._too_large()
        return {"type": "http.request", "body": b"".join(parts), "more_body": False}

    def _too_large(self) -> Problem:
        return Problem(
            413, f"the body is larger than this server's {self.most} bytes", code="body_too_large"
        )


def _again(message: Message, receive: Receive) -> Receive:
    """A ``receive`` that gives ``message`` first."""
    first = [message]

    async def next_message() -> Message:
        return first.pop() if first else await receive()

    return next_message


class ApiKey:
    """Lets requests to the API pass that bring the key."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self.app = app
        self._expected = f"Bearer {key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        guarded = scope["type"] == "http" and scope["path"].startswith(GUARDED)
        if not guarded or scope["method"] == "OPTIONS":  # which asks for nothing but CORS
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("authorization", "").encode("latin-1")
        if hmac.compare_digest(given, self._expected):
            await self.app(scope, receive, send)
            return
        wrong = Problem(
            401,
            "the API key is missing or wrong; send Authorization: Bearer KEY",
            code="invalid_api_key",
        )
        await problem_response(wrong)(scope, receive, send)
