"""How to decode: length, sampling, stop strings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dynexit.errors import UserError

_GREEDY_BELOW = 1e-5  # dividing fp32 logits by less than this leaves one token anyway
_SHARED = ("top_k", "top_p", "min_p", "repetition_penalty", "max_new_tokens")


@dataclass(frozen=True)
class GenerationSettings:
    """Settings of one request; a value out of range raises ``UserError`` naming its field.

    ``temperature`` 0 is greedy. ``top_k`` 0, ``top_p`` 1, ``min_p`` 0 and ``repetition_penalty`` 1
    are off. ``stop`` holds strings that end the answer and are not part of it. ``prefill_chunk``
    is the number of prompt tokens run at once.
    """

    max_new_tokens: int = 64
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    prefill_chunk: int = 512

    def __post_init__(self) -> None:
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)
        object.__setattr__(self, "stop", stop)
        _whole("max_new_tokens", self.max_new_tokens, 1)
        _whole("top_k", self.top_k, 0)
        _whole("prefill_chunk", self.prefill_chunk, 1)
        _real("temperature", self.temperature, 0.0, None)
        _real("top_p", self.top_p, 0.0, 1.0)
        _real("min_p", self.min_p, 0.0, 1.0)
        _real("repetition_penalty", self.repetition_penalty, 0.0, None)
        if self.repetition_penalty == 0.0:
            raise UserError("repetition_penalty is 0; give a number above 0 (1 is off)")
        if self.seed is not None:
            _whole("seed", self.seed, 0)
        if not all(isinstance(text, str) and text for text in self.stop):
            raise UserError("stop holds an empty string or no string; give texts to stop at")

    @property
    def greedy(self) -> bool:
        """Whether every token is the most probable one."""
        return self.temperature < _GREEDY_BELOW


def from_generation_config(raw: Mapping[str, Any], **overrides: Any) -> GenerationSettings:
    """Settings of a checkpoint's ``generation_config.json``; an override that is not None wins.

    As in transformers, its temperature counts only with ``do_sample`` true. What the file leaves
    out is off here, also ``top_k``, which transformers would set to 50.
    """
    known = set(GenerationSettings.__dataclass_fields__)
    if unknown := sorted(set(overrides) - known):
        raise UserError(f"{unknown[0]} is no generation setting; there are {', '.join(known)}")
    values = {name: raw[name] for name in _SHARED if raw.get(name) is not None}
    if raw.get("do_sample"):
        temperature = raw.get("temperature")
        values["temperature"] = 1.0 if temperature is None else temperature
    try:
        GenerationSettings(**values)
    except UserError as error:
        raise UserError(f"generation_config.json: {error}") from None
    given = {name: value for name, value in overrides.items() if value is not None}
    return GenerationSettings(**(values | given))


def _whole(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UserError(f"{name} is {value!r}; give a whole number of at least {least}")


def _real(name: str, value: object, least: float, most: float | None) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    upper = math.inf if most is None else most
    if not number or not math.isfinite(value) or not least <= value <= upper:  # type: ignore[arg-type, operator]
        span = f"of at least {least:g}" if most is None else f"from {least:g} to {most:g}"
        raise UserError(f"{name} is {value!r}; give a number {span}")
