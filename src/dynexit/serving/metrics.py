"""Numbers of a running server, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from dynexit.inference.generation import Drafting, GeneratedToken

FIRST = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)  # seconds
EACH = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
OUTCOMES = ("ok", "invalid", "cancelled", "timeout", "overload", "draining", "error")


class Metrics:
    """Counters of one server of a model with ``depth`` layers; safe to use from any thread."""

    def __init__(self, depth: int) -> None:
        registry = CollectorRegistry()
        self.registry = registry
        self._depth = depth
        self.requests = Counter(
            "dynexit_requests", "Requests by how they ended", ["outcome"], registry=registry
        )
        for outcome in OUTCOMES:
            self.requests.labels(outcome)
        self.queued = Gauge("dynexit_queue_length", "Texts that wait for a row", registry=registry)
        self.running = Gauge("dynexit_running", "Texts that have a row", registry=registry)
        self.prompt_tokens = Counter(
            "dynexit_prompt_tokens", "Prompt tokens of accepted requests", registry=registry
        )
        self.first_token = Histogram(
            "dynexit_time_to_first_token_seconds",
            "From a request to its first token, waiting included",
            buckets=FIRST,
            registry=registry,
        )
        self.each_token = Histogram(
            "dynexit_time_per_token_seconds",
            "Between tokens of one text",
            buckets=EACH,
            registry=registry,
        )
        self.exit_layer = Histogram(
            "dynexit_exit_layer",
            "Layers run until a token was known",
            buckets=range(1, depth + 1),
            registry=registry,
        )
        self.layer_saving = Gauge(
            "dynexit_layer_saving",
            "1 - mean exit layer / layers, over all tokens so far",
            registry=registry,
        )
        self.shedding = Gauge(
            "dynexit_shedding_level", "0: thresholds as started with", registry=registry
        )
        self.drafts = Counter(
            "dynexit_drafts", "Tokens that exits drafted in lossless answers", registry=registry
        )
        self.accepted = Counter(
            "dynexit_drafts_accepted", "Drafts that stand in the answers", registry=registry
        )
        self.invalid_scores = Counter(
            "dynexit_invalid_scores",
            "Scores of the judge that were no numbers, for which a token stayed",
            registry=registry,
        )
        self._tokens = self._layers = 0

    def drafted(self, drafting: Drafting) -> None:
        """A lossless answer has ended."""
        self.drafts.inc(drafting.drafts)
        self.accepted.inc(drafting.accepted)
        self.invalid_scores.inc(drafting.invalid_scores)

    def token(self, token: GeneratedToken, waited: float, *, first: bool) -> None:
        """One token was made, ``waited`` seconds after the one before or after the order."""
        (self.first_token if first else self.each_token).observe(waited)
        self.exit_layer.observe(token.exit_layer)
        self.invalid_scores.inc(token.invalid_scores)
        self._tokens += 1
        self._layers += token.exit_layer

    def texts(self, running: int, queued: int) -> None:
        """How many there are."""
        self.running.set(running)
        self.queued.set(queued)
        if self._tokens:
            self.layer_saving.set(1.0 - self._layers / self._tokens / self._depth)

    def page(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)
