"""Every request seen from outside: how it ended, for the log and for the metrics."""

from __future__ import annotations

import logging
import random
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dynexit.serving.metrics import Metrics
from dynexit.serving.reply import STORY

API = "/v1/"
OUTCOMES = {429: "overload", 503: "draining", 504: "timeout"}

log = logging.getLogger(__name__)


class Watch:
    """The outermost layer. ``open`` counts requests whose answer isn't sent yet."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.open = 0
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begin, seen = time.perf_counter(), {"status": 0}
        request_id = f"{random.getrandbits(64):016x}"

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen["status"] = message["status"]
                own = (b"x-request-id", request_id.encode())
                message["headers"] = [*message.get("headers", []), own]
            await send(message)

        story: dict[str, Any] = scope.setdefault(STORY, {})
        self.open += 1
        try:
            await self.app(scope, receive, sending)
        except Exception:  # the response was a 500; what it was is for the log alone
            log.exception("request failed", extra={"fields": {"request": request_id}})
            story["outcome"] = "error"
        finally:
            self.open -= 1
            self._note(scope, seen["status"], request_id, time.perf_counter() - begin)

    def _note(self, scope: Scope, status: int, request_id: str, seconds: float) -> None:
        story = dict(scope[STORY])
        outcome = story.pop("outcome", None) or _outcome(status)
        api = scope["path"].startswith(API)
        if api and scope["method"] == "POST":
            self._metrics.requests.labels(outcome).inc()
        told = {
            "request": request_id,
            "method": scope["method"],
            "path": scope["path"],
            "status": status,
            "outcome": outcome,
            "seconds": round(seconds, 4),
        }
        level = logging.INFO if api else logging.DEBUG
        log.log(level, "request", extra={"fields": told | story})


def _outcome(status: int) -> str:
    if status in OUTCOMES:
        return OUTCOMES[status]
    if status == 0:
        return "cancelled"
    if status < 400:
        return "ok"
    return "invalid" if status < 500 else "error"
