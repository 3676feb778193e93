"""OpenAI's objects: whole answers and the chunks of a stream, with our own field ``dynexit``."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from dynexit.models.tokenizer import Tokenizer
from dynexit.serving.order import Logprob, Made, TokenLogprobs

Json = dict[str, Any]
FINISH = {"eos": "stop", "stop": "stop", "length": "length"}
LEAST = -9999.0  # JSON has no infinity


class TokenTexts:
    """What single tokens say, the space before them included."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._anchor = tokenizer.encode("a")[-1:]
        self._start = len(tokenizer.decode(self._anchor))
        self.text = lru_cache(maxsize=1 << 16)(self._text)

    def _text(self, token: int) -> str:
        # behind another token, as decoders drop the space that begins a text
        return self._tokenizer.decode([*self._anchor, token])[self._start :]


@dataclass(frozen=True)
class Head:
    """What every object of one reply begins with."""

    id: str
    created: int
    model: str

    @classmethod
    def new(cls, prefix: str, model: str) -> Head:
        return cls(f"{prefix}-{random.getrandbits(96):024x}", int(time.time()), model)

    def object(self, kind: str, choices: list[Json]) -> Json:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }


class Style(Protocol):
    """How completions and chat differ."""

    prefix: str
    whole: str
    chunk: str

    def choice(self, index: int, made: Sequence[Made]) -> Json:
        """A choice of a whole answer."""
        ...

    def opening(self, index: int) -> Json | None:
        """What a stream says of a choice before its first token."""
        ...

    def piece(self, made: Made) -> Json:
        """A choice of a chunk, for one token."""
        ...

    def closing(self, index: int, finish: str) -> Json:
        """A choice of its last chunk."""
        ...


class CompletionStyle:
    """``/v1/completions``; with ``echo`` texts, one a choice, that go before the answers."""

    prefix, whole, chunk = "cmpl", "text_completion", "text_completion"

    def __init__(self, texts: TokenTexts, echo: Sequence[str] | None) -> None:
        self._texts = texts
        self._echo = echo
        self._offsets: dict[int, int] = {}

    def choice(self, index: int, made: Sequence[Made]) -> Json:
        text = "".join(one.token.text for one in made)
        return {
            "index": index,
            "text": self._before(index) + text,
            "logprobs": self._logprobs(index, made),
            "finish_reason": FINISH[made[-1].finish],
        }

    def opening(self, index: int) -> Json | None:
        text = self._before(index)
        return self._chunk(index, text, None, None) if text else None

    def piece(self, made: Made) -> Json:
        logprobs = self._logprobs(made.choice, [made])
        return self._chunk(made.choice, made.token.text, logprobs, None)

    def closing(self, index: int, finish: str) -> Json:
        return self._chunk(index, "", None, FINISH[finish])

    def _before(self, index: int) -> str:
        return "" if self._echo is None else self._echo[index]

    def _chunk(self, index: int, text: str, logprobs: Json | None, finish: str | None) -> Json:
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish}

    def _logprobs(self, index: int, made: Sequence[Made]) -> Json | None:
        likely = [one.logprobs for one in made if one.logprobs is not None]
        if not likely:
            return None
        offsets = []
        for one in made:
            offsets.append(self._offsets.get(index, 0))
            self._offsets[index] = offsets[-1] + len(one.token.text)
        return {
            "tokens": [self._texts.text(one.chosen.id) for one in likely],
            "token_logprobs": [_number(one.chosen) for one in likely],
            "top_logprobs": [
                {self._texts.text(top.id): _number(top) for top in reversed(one.top)}
                for one in likely
            ],
            "text_offset": offsets,
        }


class ChatStyle:
    """``/v1/chat/completions``."""

    prefix, whole, chunk = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def __init__(self, texts: TokenTexts) -> None:
        self._texts = texts

    def choice(self, index: int, made: Sequence[Made]) -> Json:
        text = "".join(one.token.text for one in made)
        return {
            "index": index,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": self._logprobs(made),
            "finish_reason": FINISH[made[-1].finish],
        }

    def opening(self, index: int) -> Json | None:
        return self._chunk(index, {"role": "assistant", "content": ""}, None, None)

    def piece(self, made: Made) -> Json:
        logprobs = self._logprobs([made])
        return self._chunk(made.choice, {"content": made.token.text}, logprobs, None)

    def closing(self, index: int, finish: str) -> Json:
        return self._chunk(index, {}, None, FINISH[finish])

    def _chunk(self, index: int, delta: Json, logprobs: Json | None, finish: str | None) -> Json:
        return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}

    def _logprobs(self, made: Sequence[Made]) -> Json | None:
        likely = [one.logprobs for one in made if one.logprobs is not None]
        return {"content": [self._token(one) for one in likely]} if likely else None

    def _token(self, one: TokenLogprobs) -> Json:
        return self._entry(one.chosen) | {"top_logprobs": [self._entry(top) for top in one.top]}

    def _entry(self, one: Logprob) -> Json:
        text = self._texts.text(one.id)
        return {"token": text, "logprob": _number(one), "bytes": list(text.encode())}


def usage(prompt_tokens: int, made: int) -> Json:
    """Tokens read and made."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": made,
        "total_tokens": prompt_tokens + made,
    }


def depth_of_token(made: Made) -> Json:
    """``dynexit`` of a chunk: where its token left, and the judge's score there."""
    token = made.token
    return {"id": token.id, "exit_layer": token.exit_layer, "score": token.score}


def depth_of_answers(made: Sequence[Made], layers: int) -> Json:
    """``dynexit`` of a reply: exit layers, and what they saved. Layers count from 1.

    In lossless answers exit layers are those of drafts, and what is saved are readings of layers.
    """
    exits = [one.token.exit_layer for one in made]
    mean = sum(exits) / len(exits) if exits else float(layers)
    told: Json = {
        "exit_layers": exits,
        "mean_exit_layer": mean,
        "layers": layers,
        "layer_saving": 1.0 - mean / layers,
    }
    drafting = [one.drafting for one in made if one.drafting is not None]
    if drafting:
        passes = sum(sum(one.passes) for one in drafting)
        told["layer_saving"] = 1.0 - passes / (len(exits) * layers)
        told["drafted"] = sum(one.drafts for one in drafting)
        told["accepted"] = sum(one.accepted for one in drafting)
    return told


def _number(one: Logprob) -> float:
    return max(one.logprob, LEAST)
