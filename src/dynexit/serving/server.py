"""Running the server: its socket, its signals, its end."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

import uvicorn

from dynexit.errors import UserError
from dynexit.inference.chat_template import ChatTemplate
from dynexit.models import Model
from dynexit.serving.app import Service, create_app, create_service
from dynexit.serving.depths import Depths
from dynexit.serving.engine import Engine
from dynexit.serving.limits import Limits
from dynexit.serving.metrics import Metrics
from dynexit.serving.requests import Orders
from dynexit.serving.watch import Watch

KEEP_ALIVE = 15  # seconds that an idle connection stays open
LINGER = 5  # seconds for connections to close at the end
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Plan:
    """What to serve and to whom. ``target`` is the time per token to keep, in seconds."""

    model: Model
    name: str
    depths: Depths
    template: ChatTemplate | None
    limits: Limits = field(default_factory=Limits)
    key: str | None = None
    origins: tuple[str, ...] = ()
    target: float | None = None


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there (port 0: any free one); ``UserError`` where it can't."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        number = None if isinstance(error, OverflowError | socket.gaierror) else error.errno
        reason = str(error) if number is None else os.strerror(number)
        raise UserError(
            f"cannot listen at {host}:{port} ({reason}); give another --host or --port"
        ) from None


class Server(uvicorn.Server):
    """Uvicorn that ends when all it has taken is answered.

    The first SIGINT or SIGTERM makes it refuse new requests with 503 and finish the others; the
    second ends it at once.
    """

    def __init__(self, config: uvicorn.Config, service: Service, watch: Watch) -> None:
        super().__init__(config)
        self._service = service
        self._watch = watch

    def drain(self) -> None:
        """Finish what is there, then end. Safe to call from any thread."""
        self._service.draining = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._service.draining:
            self.should_exit = self.force_exit = True
        self.drain()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take over the signals while serving; ending by one is no failure."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {each: signal.signal(each, self.handle_exit) for each in SIGNALS}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    async def on_tick(self, counter: int) -> bool:
        if self._service.draining and not self._watch.open:
            self.should_exit = True
        return await super().on_tick(counter)


def build(plan: Plan) -> tuple[Server, Engine]:
    """The server of a plan, and its engine; neither runs yet."""
    metrics = Metrics(plan.model.backbone.depth)
    engine = Engine(plan.model, plan.depths, plan.limits, metrics, plan.target)
    orders = Orders(plan.model, plan.name, plan.depths, plan.limits, plan.template)
    service = create_service(engine, orders, metrics, plan.limits)
    watch = Watch(create_app(service, plan.key, plan.origins), metrics)
    config = uvicorn.Config(
        watch,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        lifespan="off",
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=LINGER,
    )
    return Server(config, service, watch), engine


def serve(plan: Plan, place: socket.socket) -> None:
    """Serve until a signal says to end."""
    server, engine = build(plan)
    engine.start()
    try:
        server.run(sockets=[place])
    finally:
        engine.stop()
