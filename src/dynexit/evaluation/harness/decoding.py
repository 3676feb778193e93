"""From a task's ``generation_kwargs`` to settings of decoding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lm_eval.models.utils import normalize_gen_kwargs

from dynexit.errors import UserError
from dynexit.inference.settings import GenerationSettings, from_generation_config

_TAKEN = ("top_k", "top_p", "min_p", "repetition_penalty", "seed")
_KNOWN = ("until", "max_gen_toks", "do_sample", "temperature", *_TAKEN)
_WITHOUT_EFFECT = {"num_beams": 1}  # written in tasks, and what is done anyway


@dataclass(frozen=True)
class Decoding:
    """``until`` holds every string that ends an answer, those of ``settings`` and those that are
    one special token, whose ids are in ``ends``."""

    settings: GenerationSettings
    until: tuple[str, ...]
    ends: tuple[int, ...]

    @property
    def max_new_tokens(self) -> int:
        return self.settings.max_new_tokens


def decoding(
    given: Mapping[str, Any],
    default_tokens: int,
    raw: Mapping[str, Any],
    special: Mapping[str, int],
) -> Decoding:
    """What a task's ``generation_kwargs`` ask for.

    ``raw`` is the checkpoint's ``generation_config.json``, which fills in what the task leaves out
    except for temperature: the harness decodes greedily unless it is told to sample. ``special``
    are the ids of special tokens by their text. Raises ``UserError`` for what dynexit cannot do.
    """
    kwargs = dict(normalize_gen_kwargs(dict(given), default_tokens))
    until = _texts(kwargs["until"])
    for name, value in kwargs.items():
        if name not in _KNOWN and _WITHOUT_EFFECT.get(name) != value:
            raise UserError(
                f"generation_kwargs: {name}={value} is not known; there are {', '.join(_KNOWN)}"
            )
    settings = from_generation_config(
        raw,
        max_new_tokens=kwargs["max_gen_toks"],
        temperature=float(kwargs.get("temperature", 1.0)) if kwargs["do_sample"] else 0.0,
        stop=tuple(text for text in until if text not in special),
        **{name: kwargs.get(name) for name in _TAKEN},
    )
    return Decoding(settings, until, tuple(special[text] for text in until if text in special))


def _texts(until: Sequence[object]) -> tuple[str, ...]:
    """Stop strings without the empty one, at which nothing can stop."""
    if not all(isinstance(text, str) for text in until):
        raise UserError(f"generation_kwargs: until={until!r} must be a string or a list of them")
    return tuple(str(text) for text in until if text)
