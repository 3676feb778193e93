"""Sending an answer, whole or as a stream, for as long as someone waits for it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from dynexit.serving.mailbox import Mailbox
from dynexit.serving.order import Failed, Made, Ticket
from dynexit.serving.problem import Problem, broken, invalid, too_slow
from dynexit.serving.replies import (
    Head,
    Json,
    Style,
    depth_of_answers,
    depth_of_token,
    usage,
)

STORY = "dynexit.story"  # in the scope of a request: what the log is to say of it
GRACE = 1.0  # seconds for a last word to a client that may not read


@dataclass
class Answering:
    """An order under way, how it is to be told, and what was made so far."""

    ticket: Ticket
    mailbox: Mailbox
    style: Style
    head: Head
    layers: int
    prompt_tokens: int
    made: list[Made] = field(default_factory=list)

    @property
    def choices(self) -> int:
        return len(self.ticket.order.prompts)

    async def events(self) -> AsyncIterator[list[Made]]:
        """New tokens of all choices until each has its last; ``Problem`` where it fails."""
        ended = 0
        while ended < self.choices:
            news = []
            for event in await self.mailbox.get():
                if isinstance(event, Failed):
                    raise broken() if event.reason is None else invalid(event.reason)
                news.append(event)
                ended += bool(event.finish)
            self.made += news
            yield news

    def of_choice(self, index: int) -> list[Made]:
        return [one for one in self.made if one.choice == index]

    def depth(self) -> Json:
        """Exit layers of all tokens, choice by choice."""
        return depth_of_answers(sorted(self.made, key=lambda one: one.choice), self.layers)

    def usage(self) -> Json:
        return usage(self.prompt_tokens, len(self.made))

    def whole(self) -> Json:
        """The answer as one object."""
        choices = []
        for index in range(self.choices):
            made = self.of_choice(index)
            own = {"dynexit": depth_of_answers(made, self.layers)} if self.choices > 1 else {}
            choices.append(self.style.choice(index, made) | own)
        told = {"usage": self.usage(), "dynexit": self.depth()}
        return self.head.object(self.style.whole, choices) | told


class Reply(Response):
    """Waits for the answer and sends it; gives it up when the client goes or time is over."""

    def __init__(self, answering: Answering, seconds: float) -> None:
        super().__init__()
        self.answering = answering
        self.seconds = seconds
        self.started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        sending = asyncio.ensure_future(self._try(scope, receive, send))
        leaving = asyncio.ensure_future(_gone(receive))
        story = scope.setdefault(STORY, {})
        left = self.answering.ticket.since + self.seconds - time.perf_counter()
        try:
            done, _ = await asyncio.wait(
                (sending, leaving), timeout=left, return_when=asyncio.FIRST_COMPLETED
            )
            if sending in done:
                sending.result()
            elif leaving in done:
                story["outcome"] = "cancelled"
            else:
                story["outcome"] = "timeout"
                sending.cancel()
                await self._last_word(too_slow(self.seconds), scope, receive, send)
        finally:
            self.answering.ticket.cancel()
            sending.cancel()
            leaving.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)
            self._tell(story)

    async def _try(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.answer(scope, receive, send)
        except Problem as problem:
            scope[STORY]["outcome"] = "error"
            await self._fail(problem, scope, receive, send)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait for the whole answer and send it."""
        async for _ in self.answering.events():
            pass
        self.started = True
        await JSONResponse(self.answering.whole())(scope, receive, send)

    async def _last_word(
        self, problem: Problem, scope: Scope, receive: Receive, send: Send
    ) -> None:
        try:
            async with asyncio.timeout(GRACE):
                await self._fail(problem, scope, receive, send)
        except TimeoutError:  # it doesn't read; the connection is closed without
            pass

    async def _fail(self, problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
        if not self.started:
            self.started = True
            response = JSONResponse(problem.body(), problem.status, problem.headers())
            await response(scope, receive, send)

    def _tell(self, story: MutableMapping[str, Any]) -> None:
        """Numbers for the log, none of the texts."""
        depth = self.answering.depth()
        story.update(
            id=self.answering.head.id,
            prompt_tokens=self.answering.prompt_tokens,
            completion_tokens=len(self.answering.made),
            mean_exit_layer=round(depth["mean_exit_layer"], 3),
        )


class StreamReply(Reply):
    """The same as server-sent events, a chunk for every token."""

    def __init__(self, answering: Answering, seconds: float, *, include_usage: bool) -> None:
        super().__init__(answering, seconds)
        self._usage: Json = {"usage": None} if include_usage else {}

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send chunks as tokens come."""
        opened: set[int] = set()
        async for news in self.answering.events():
            await self._start(send)
            lines = []
            for made in news:
                if made.choice not in opened:
                    opened.add(made.choice)
                    lines += self._opening(made.choice)
                lines.append(self._chunk(self.answering.style.piece(made), depth_of_token(made)))
                if made.finish:
                    lines.append(self._closing(made))
            await _write(send, lines)
        await _write(send, [*self._ending(), b"data: [DONE]\n\n"], more=False)

    async def _start(self, send: Send) -> None:
        if self.started:
            return
        self.started = True
        headers = {
            "content-type": "text/event-stream; charset=utf-8",
            "cache-control": "no-cache",
            "x-accel-buffering": "no",  # a proxy in between must not gather chunks
        }
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": raw})

    async def _fail(self, problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
        if self.started:
            await _write(send, [_event(problem.body())], more=False)
        else:
            await super()._fail(problem, scope, receive, send)

    def _opening(self, choice: int) -> list[bytes]:
        content = self.answering.style.opening(choice)
        return [] if content is None else [self._chunk(content, None)]

    def _closing(self, made: Made) -> bytes:
        answering = self.answering
        content = answering.style.closing(made.choice, made.finish)
        depth = depth_of_answers(answering.of_choice(made.choice), answering.layers)
        return self._chunk(content, depth)

    def _ending(self) -> list[bytes]:
        if not self._usage:
            return []
        told = {"usage": self.answering.usage(), "dynexit": self.answering.depth()}
        return [_event(self.answering.head.object(self.answering.style.chunk, []) | told)]

    def _chunk(self, content: Json, depth: Json | None) -> bytes:
        told = self.answering.head.object(self.answering.style.chunk, [content]) | self._usage
        return _event(told if depth is None else told | {"dynexit": depth})


def _event(content: Json) -> bytes:
    return b"data: " + json.dumps(content, separators=(",", ":")).encode() + b"\n\n"


async def _write(send: Send, lines: list[bytes], *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": b"".join(lines), "more_body": more})


async def _gone(receive: Receive) -> None:
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
