"""The one thread that owns the model: lets texts in, decodes them together, tells what is new."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from dynexit.inference.decoder import Decoder
from dynexit.inference.deferred import DeferringDecoder
from dynexit.models import Model
from dynexit.serving.batch import Batch, Text
from dynexit.serving.deferred import DeferringBatch
from dynexit.serving.depths import Depths, Thresholds
from dynexit.serving.limits import Limits
from dynexit.serving.lossless import LosslessBatch
from dynexit.serving.metrics import Metrics
from dynexit.serving.order import Event, Failed, Made, Order, Ticket
from dynexit.serving.problem import Problem, broken
from dynexit.serving.shedding import Shedder

REST = 1.0  # seconds without work after which a level of shedding is given back
RETRY_AT_MOST = 60  # seconds

log = logging.getLogger(__name__)


class Engine:
    """Decodes orders until ``stop``. All methods are safe to call from any thread."""

    def __init__(
        self,
        model: Model,
        depths: Depths,
        limits: Limits,
        metrics: Metrics,
        target: float | None = None,
    ) -> None:
        self._model = model
        self._limits = limits
        self._metrics = metrics
        self._levels = depths.levels
        self._shedder = None if target is None else Shedder(target, max(1, len(self._levels)))
        self._policy = depths.policy
        capacity = limits.context(model.backbone.config.max_positions)
        size = model.backbone, limits.max_batch, capacity
        self._plain = (
            Batch(Decoder(*size), limits)
            if depths.policy is None
            else DeferringBatch(DeferringDecoder(*size, depths.policy), limits)
        )
        self._lossless: LosslessBatch | None = None  # made when it is first asked for
        self._changed = threading.Condition()
        self._waiting: deque[Text] = deque()
        self._stopping = False
        self._text_seconds = 1.0  # a moving mean of what a text takes in its row
        self._thread = threading.Thread(target=self._work, name="dynexit-engine", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """End at once; what is under way is given up."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def running(self) -> int:
        return sum(map(len, self._batches()))

    @property
    def _free(self) -> int:
        return self._limits.max_batch - self.running

    @property
    def queued(self) -> int:
        return len(self._waiting)

    def submit(self, order: Order, deliver: Callable[[list[Event]], None]) -> Ticket:
        """Take an order; ``deliver`` gets its events in the engine's thread.

        Raises ``Problem``: 429 where the queue is full, 400 where the order is more than would ever
        fit, 500 after a failure.
        """
        count = len(order.prompts)
        most = self._limits.max_queue + self._limits.max_batch
        if count > most:
            raise Problem(400, f"{count} choices are more than this server's {most}", param="n")
        ticket = Ticket(order, self._model.backbone.config.vocab, deliver)
        texts = [Text(ticket, choice, self._model) for choice in range(count)]
        with self._changed:
            if self._stopping or not self.alive:
                raise broken()
            self._forget_cancelled()
            room = self._limits.max_queue + self._free - len(self._waiting)
            if count > room:
                raise self._full()
            self._waiting.extend(texts)
            self._changed.notify()
        self._metrics.prompt_tokens.inc(sum(map(len, order.prompts)))
        return ticket

    def _full(self) -> Problem:
        waves = 1 + len(self._waiting) / self._limits.max_batch
        seconds = min(RETRY_AT_MOST, max(1, round(waves * self._text_seconds)))
        return Problem(
            429,
            f"{len(self._waiting)} texts wait already, this server's --max-queue; try again later",
            code="queue_full",
            retry_after=seconds,
        )

    def _work(self) -> None:
        while True:
            try:
                with self._changed:
                    self._wait()
                    if self._stopping:
                        return
                    self._admit()
                self._turn()
            except Exception:
                log.exception("the engine failed; what was running is given up")
                self._give_up()

    def _wait(self) -> None:
        """Return when there is something to do."""
        self._forget_cancelled()
        while not (self._waiting or self.running or self._stopping):
            self._metrics.texts(0, 0)
            if not self._changed.wait(REST) and self._shedder is not None:
                self._metrics.shedding.set(self._shedder.rest())

    def _forget_cancelled(self) -> None:
        """Drop texts that nobody waits for from the queue."""
        if any(text.ticket.cancelled for text in self._waiting):
            self._waiting = deque(text for text in self._waiting if not text.ticket.cancelled)

    def _admit(self) -> None:
        while self._waiting and self._free:
            text = self._waiting.popleft()
            order = text.ticket.order
            batch = self._drafting() if order.lossless else self._plain
            own = order.thresholds
            batch.admit(text, self._at_level() if own is None else own)

    def _batches(self) -> list[Batch]:
        return [self._plain] if self._lossless is None else [self._plain, self._lossless]

    def _drafting(self) -> LosslessBatch:
        if self._lossless is None:
            assert self._policy is not None, "without exits no order is lossless"
            self._lossless = LosslessBatch(self._model, self._policy, self._limits)
        return self._lossless

    def _at_level(self) -> Thresholds | None:
        level = 0 if self._shedder is None else self._shedder.level
        return self._levels[level] if level else None

    def _turn(self) -> None:
        """One round: prompts go on by a piece, texts by a token."""
        made: list[tuple[Text, list[Event]]] = []
        self._free_rows()
        busy = any(batch.decoding for batch in self._batches())
        for batch in self._batches():
            batch.read(self._limits.busy_chunk if busy else self._limits.chunk)
            made += batch.step()
        self._tell(made)
        self._free_rows()  # after the telling, as clients wait for nothing but words
        self._count(made)

    def _free_rows(self) -> None:
        for batch in self._batches():
            batch.free()

    def _tell(self, made: list[tuple[Text, list[Event]]]) -> None:
        """Deliver what is new, ticket by ticket."""
        news: dict[int, tuple[Ticket, list[Event]]] = {}
        for text, events in made:
            if events:
                news.setdefault(id(text.ticket), (text.ticket, []))[1].extend(events)
        for ticket, events in news.values():
            if any(isinstance(event, Failed) for event in events):
                ticket.cancel()  # its other choices end as well
            try:
                ticket.deliver(events)
            except RuntimeError:  # the loop that waited for it is gone
                ticket.cancel()

    def _count(self, made: list[tuple[Text, list[Event]]]) -> None:
        now = time.perf_counter()
        for text, events in made:
            tokens = [event for event in events if isinstance(event, Made)]
            begun = len(text.answer.tokens) - len(tokens)
            for at, event in enumerate(tokens):
                first = begun + at == 0
                waited = text.waited if first else text.waited / len(tokens)
                self._metrics.token(event.token, waited, first=first)
                if self._shedder is not None and not first:
                    self._metrics.shedding.set(self._shedder.observe(waited))
                if event.drafting is not None:
                    self._metrics.drafted(event.drafting)
                if event.finish:
                    self._text_seconds += 0.1 * (now - text.admitted - self._text_seconds)
        self._metrics.texts(self.running, len(self._waiting))

    def _give_up(self) -> None:
        """After a failure every text under way fails, and all rows are free for others."""
        texts = [text for batch in self._batches() for text in batch.texts]
        self._tell([(text, [Failed(None)]) for text in texts])
        self._free_rows()
