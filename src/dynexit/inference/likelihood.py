"""How probable given continuations are, token by token, at full depth or with early exits.

At full depth the tokens of a continuation are read in one pass. With a policy each of them is a
decoding step, as if it had been generated (teacher forcing): the prompt without its last token is
read at full depth, then every step leaves where the judge says so, and its logits are those of
the exit. Probabilities are natural logarithms of the softmax over the whole vocabulary, in fp32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from dynexit.errors import UserError
from dynexit.exits.policy import ExitPolicy
from dynexit.inference.decoder import Decoder
from dynexit.inference.sampling import check_finite
from dynexit.models import Backbone, Model

_READOUT = 64  # positions read out at once: [64, 128k] in fp32 is 33 MB


@dataclass(frozen=True)
class Likelihood:
    """One continuation of ``prompt_tokens`` tokens of prompt. For each of its tokens: the natural
    logarithm of its probability, whether it is the most probable one, and the layer it was read
    out after."""

    logprobs: tuple[float, ...]
    greedy: tuple[bool, ...]
    exit_layers: tuple[int, ...]
    prompt_tokens: int

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Likelihood:
        """What ``dataclasses.asdict`` made a row of."""
        logprobs, greedy, layers = (tuple(row[n]) for n in ("logprobs", "greedy", "exit_layers"))
        return cls(logprobs, greedy, layers, row["prompt_tokens"])

    @property
    def total(self) -> float:
        """Log-probability of the whole continuation."""
        return sum(self.logprobs)

    @property
    def is_greedy(self) -> bool:
        """Whether greedy decoding would give this continuation."""
        return all(self.greedy)


def log_likelihood(
    model: Model,
    pairs: Sequence[tuple[str, str]],
    policy: ExitPolicy | None = None,
    batch: int = 16,
    tick: Callable[[], None] = lambda: None,
) -> list[Likelihood]:
    """The likelihood of each (context, continuation), in order.

    Texts become tokens as in lm-evaluation-harness: spaces that end a context belong to the
    continuation, and the continuation's tokens are those of both texts together after as many as
    the context alone has. See ``log_likelihood_ids`` for the rest.
    """
    ids = [encode_pair(model.tokenizer.encode, *pair) for pair in pairs]
    return log_likelihood_ids(model, ids, policy, batch, tick)


def encode_pair(
    encode: Callable[[str], list[int]], context: str, continuation: str
) -> tuple[list[int], list[int]]:
    """Token ids of a context and of what follows it."""
    stripped = context.rstrip()
    continuation = context[len(stripped) :] + continuation
    prompt = encode(stripped)
    return prompt, encode(stripped + continuation)[len(prompt) :]


def log_likelihood_ids(
    model: Model,
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    policy: ExitPolicy | None = None,
    batch: int = 16,
    tick: Callable[[], None] = lambda: None,
) -> list[Likelihood]:
    """The likelihood of each (prompt, continuation) of token ids, in order.

    Without a context give the token that begins a text as the prompt. ``batch`` continuations are
    computed at once; ``tick`` is called after each. Raises ``UserError`` for a prompt or a
    continuation without a token, and for more tokens than the model's context holds.
    """
    texts = [_Text(list(prompt), list(rest)) for prompt, rest in pairs]
    for number, text in enumerate(texts):
        _check(number, text, model.backbone)
    # neighbours in this order need little padding and share their prompts
    ordered = iter(sorted(texts, key=lambda t: (-len(t.prompt), t.prompt, -len(t.rest))))
    while group := list(islice(ordered, max(1, batch))):
        if policy is None:
            _at_once(model.backbone, group)
        else:
            _step_by_step(model.backbone, group, policy)
        for _ in group:
            tick()
    return [text.result() for text in texts]


@dataclass
class _Text:
    """A prompt, its continuation, and what is known of it so far."""

    prompt: list[int]
    rest: list[int]
    logprobs: list[float] = field(default_factory=list)
    greedy: list[bool] = field(default_factory=list)
    exit_layers: list[int] = field(default_factory=list)

    @cached_property
    def forced(self) -> list[int]:
        """The tokens after which the continuation's are read out."""
        return [self.prompt[-1], *self.rest[:-1]]

    @property
    def length(self) -> int:
        """Tokens that the model sees."""
        return len(self.prompt) + len(self.rest) - 1

    def take(self, logprob: float, greedy: bool, layer: int) -> None:
        self.logprobs.append(logprob)
        self.greedy.append(greedy)
        self.exit_layers.append(layer)

    def result(self) -> Likelihood:
        known = (tuple(self.logprobs), tuple(self.greedy), tuple(self.exit_layers))
        return Likelihood(*known, len(self.prompt))


def _check(number: int, text: _Text, backbone: Backbone) -> None:
    limit, vocab = backbone.config.max_positions, backbone.config.vocab
    if not text.prompt:
        raise UserError(f"context {number} holds no token; give at least the one that begins texts")
    if not text.rest:
        raise UserError(f"continuation {number} holds no token of its own; give some text")
    if limit is not None and text.length > limit:
        raise UserError(
            f"context {number} and its continuation have {text.length + 1} tokens, the model's "
            f"context holds {limit}; shorten the context"
        )
    largest = max(*text.prompt, *text.rest)
    if largest >= vocab:
        raise UserError(f"token id {largest} of text {number} is outside the vocabulary of {vocab}")


def _opened(
    backbone: Backbone, texts: Sequence[_Text], policy: ExitPolicy | None = None
) -> Decoder:
    """A decoder with one row a text that has read the prompts but for their last tokens.

    Each prompt is read once, however many continuations it has.
    """
    numbers: dict[tuple[int, ...], int] = {}
    rows = [numbers.setdefault(tuple(text.prompt), len(numbers)) for text in texts]
    capacity = max(text.length for text in texts)
    decoder = Decoder(backbone, len(numbers), capacity, policy)
    decoder.prefill([prompt[:-1] for prompt in numbers])
    if len(numbers) < len(rows):
        decoder.keep(rows)
    return decoder


@torch.inference_mode()
def _at_once(backbone: Backbone, texts: Sequence[_Text]) -> None:
    """Full depth: all tokens of the continuations in one pass."""
    decoder = _opened(backbone, texts)
    place = backbone.place(decoder.lengths, [len(text.rest) for text in texts])
    padded = [text.forced + [0] * (place.width - len(text.rest)) for text in texts]
    hidden = backbone.embed(torch.tensor(padded, device=backbone.device))
    hidden = backbone.run(hidden, decoder.cache, 0, backbone.depth, place)
    scores = _read_out(backbone, hidden[place.valid], [t for text in texts for t in text.rest])
    for text in texts:
        for logprob, greedy in islice(scores, len(text.rest)):
            text.take(logprob, greedy, backbone.depth)


def _read_out(
    backbone: Backbone, hidden: Tensor, targets: Sequence[int]
) -> Iterator[tuple[float, bool]]:
    """Scores of ``targets`` after hidden states [N, hidden], few at a time."""
    for begin in range(0, len(targets), _READOUT):
        piece = slice(begin, begin + _READOUT)
        yield from _scores(backbone.readout(hidden[piece]), targets[piece])


def _scores(logits: Tensor, targets: Sequence[int]) -> list[tuple[float, bool]]:
    """Log-probability of each target under ``logits`` [N, vocab], and whether it is the best."""
    logits = logits.float()
    wanted = torch.tensor(targets, device=logits.device)
    top, best = logits.max(-1)
    check_finite(top)
    logprobs = logits.gather(-1, wanted[:, None])[:, 0] - logits.logsumexp(-1)
    return list(zip(logprobs.tolist(), (best == wanted).tolist(), strict=True))


def _step_by_step(backbone: Backbone, texts: Sequence[_Text], policy: ExitPolicy) -> None:
    """With exits: one decoding step a token; texts that are through are dropped."""
    decoder = _opened(backbone, texts, policy)
    active, at = list(texts), 0
    while active:
        step = decoder.step([text.forced[at] for text in active])
        scores = _scores(step.logits, [text.rest[at] for text in active])
        for text, score, layer in zip(active, scores, step.exit_layers, strict=True):
            text.take(*score, layer)
        at += 1
        stay = [row for row, text in enumerate(active) if len(text.rest) > at]
        if stay and len(stay) < len(active):
            decoder.keep(stay)
        active = [active[row] for row in stay]
