"""The HTTP side: routes, and errors in OpenAI's shape."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from dynexit.serving.descriptions import (
    ChatCompletion,
    Completion,
    ErrorBody,
    Health,
    ModelCard,
    ModelList,
)
from dynexit.serving.engine import Engine
from dynexit.serving.guards import ApiKey, BodyLimit, problem_response
from dynexit.serving.limits import Limits
from dynexit.serving.mailbox import Mailbox
from dynexit.serving.metrics import Metrics
from dynexit.serving.order import Order
from dynexit.serving.problem import Problem, broken
from dynexit.serving.replies import ChatStyle, CompletionStyle, Head, Json, Style, TokenTexts
from dynexit.serving.reply import Answering, Reply, StreamReply
from dynexit.serving.requests import Orders
from dynexit.serving.schemas import ChatRequest, CompletionRequest, Sampled

PAGE = Path(__file__).parent / "page"
LONG = 4096  # characters from which on a text is made tokens of beside the event loop
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody} for status in (400, 401, 404, 408, 413, 429, 500, 503, 504)
}
EVENT = {"type": "object", "required": ["data"], "properties": {"data": {"type": "string"}}}
STREAM = {"content": {"text/event-stream": {"itemSchema": EVENT}}}


@dataclass
class Service:
    """What the routes share. While ``draining``, new requests are refused."""

    engine: Engine
    orders: Orders
    metrics: Metrics
    limits: Limits
    texts: TokenTexts
    layers: int
    created: int
    draining: bool = False

    @property
    def name(self) -> str:
        return self.orders.name

    async def complete(self, body: CompletionRequest) -> Response:
        """Answer a completion."""
        order = await self._order(lambda: self.orders.completion(body), sum(map(len, body.prompts)))
        echo = None
        if body.echo:
            echo = [self.orders.model.tokenizer.decode(prompt) for prompt in order.prompts]
        return self._reply(body, order, CompletionStyle(self.texts, echo))

    async def chat(self, body: ChatRequest) -> Response:
        """Answer a conversation."""
        size = sum(len(turn.text) for turn in body.messages)
        order = await self._order(lambda: self.orders.chat(body), size)
        return self._reply(body, order, ChatStyle(self.texts))

    async def _order(self, make: Callable[[], Order], size: int) -> Order:
        if self.draining:
            raise Problem(
                503, "this server is shutting down; try again later", code="draining", retry_after=5
            )
        return make() if size < LONG else await asyncio.to_thread(make)

    def _reply(self, body: Sampled, order: Order, style: Style) -> Response:
        mailbox = Mailbox()
        ticket = self.engine.submit(order, mailbox.put)
        read = sum(map(len, order.prompts[:: body.n or 1]))
        head = Head.new(style.prefix, self.name)
        answering = Answering(ticket, mailbox, style, head, self.layers, read)
        if not body.stream:
            return Reply(answering, self.limits.time_limit)
        counted = bool(body.stream_options and body.stream_options.include_usage)
        return StreamReply(answering, self.limits.time_limit, include_usage=counted)

    def card(self) -> Json:
        return {
            "id": self.name,
            "object": "model",
            "created": self.created,
            "owned_by": "dynexit",
            "dynexit": self._exits(),
        }

    def _exits(self) -> Json:
        policy = self.orders.depths.policy
        return {
            "layers": self.layers,
            "judge": None if policy is None else policy.judge.kind,
            "threshold": None if policy is None else list(policy.thresholds),
            "exits": [] if policy is None else list(policy.layers),
        }

    def health(self) -> Json:
        status = "failed" if not self.engine.alive else "draining" if self.draining else "ok"
        return {
            "status": status,
            "model": self.name,
            "running": self.engine.running,
            "queued": self.engine.queued,
        }


def routes(service: Service) -> APIRouter:
    """The routes of one service."""
    router = APIRouter(responses=ERRORS)

    @router.post("/v1/completions", responses={200: {"model": Completion, **STREAM}})
    async def completions(body: CompletionRequest) -> Response:
        """Go on from a text."""
        return await service.complete(body)

    @router.post("/v1/chat/completions", responses={200: {"model": ChatCompletion, **STREAM}})
    async def chat_completions(body: ChatRequest) -> Response:
        """Give the next turn of a conversation."""
        return await service.chat(body)

    @router.get("/v1/models", response_model=ModelList)
    async def models() -> Json:
        """The one model that is served."""
        return {"object": "list", "data": [service.card()]}

    @router.get("/v1/models/{name:path}", response_model=ModelCard)
    async def model(name: str) -> Json:
        """That model by its name."""
        if name != service.name:
            raise Problem(404, f"the model {name!r} does not exist", code="model_not_found")
        return service.card()

    @router.get("/health", response_model=Health, responses={503: {"model": Health}})
    async def health() -> Response:
        """Whether requests are taken."""
        told = service.health()
        return JSONResponse(told, 200 if told["status"] == "ok" else 503)

    @router.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Numbers for Prometheus."""
        return Response(service.metrics.page(), media_type=CONTENT_TYPE_LATEST)

    return router


def create_app(service: Service, key: str | None = None, origins: Sequence[str] = ()) -> FastAPI:
    """The application of a service, for those who know ``key`` and for pages of ``origins``."""
    app = FastAPI(title="dynexit", docs_url=None, redoc_url=None)
    app.include_router(routes(service))
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _defect)
    # the last one added is the first to see a request
    app.add_middleware(BodyLimit, service.limits.max_body, service.limits.body_time)
    if key is not None:
        app.add_middleware(ApiKey, key)
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type"],
        )
    if PAGE.is_dir():
        app.mount("/", StaticFiles(directory=PAGE, html=True))
    return app


def create_service(engine: Engine, orders: Orders, metrics: Metrics, limits: Limits) -> Service:
    """A service around an engine."""
    texts = TokenTexts(orders.model.tokenizer)
    depth = orders.model.backbone.depth
    return Service(engine, orders, metrics, limits, texts, depth, int(time.time()))


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return problem_response(error)


async def _validation(request: Request, error: Exception) -> Response:
    """The first thing that is wrong with a body, as one line naming the field."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    path = [str(part) for part in first["loc"][1:]]
    if first["type"] == "json_invalid":
        message = f"the body is not valid JSON ({first['ctx']['error']})"
        return problem_response(Problem(400, message))
    param = path[0] if path else None
    message = f"{'.'.join(path) or 'the body'}: {first['msg']}"
    return problem_response(Problem(400, message, param=param))


async def _http(request: Request, error: Exception) -> Response:
    """Paths and methods that there are none of, and bodies that cannot be read."""
    assert isinstance(error, HTTPException)
    response = problem_response(Problem(error.status_code, str(error.detail)))
    response.headers.update(error.headers or {})
    return response


async def _defect(request: Request, error: Exception) -> Response:
    return problem_response(broken())
