"""dynexit in three lines of Python.

    model = dynexit.load("reference:mistral", judge="mamba")
    answer = model.generate("Question: What is the capital of France?\\nAnswer:")
    print(answer, answer.layer_saving)

What is heavy is imported where it is used, so that ``import dynexit`` is quick.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, cast

from dynexit.errors import UserError
from dynexit.exits.choice import NONE, Choice, Wish
from dynexit.inference.generation import GeneratedToken, Generation
from dynexit.inference.settings import GenerationSettings, from_generation_config

if TYPE_CHECKING:
    from dynexit.exits.policy import ExitPolicy
    from dynexit.inference.chat_template import ChatTemplate, Message
    from dynexit.inference.generate import Stream
    from dynexit.inference.prompts import Prompt
    from dynexit.inference.speculative import Lossless
    from dynexit.models.loading import Model


class ExitOptions(TypedDict, total=False):
    """When a token leaves; the words mean what they mean on the command line.

    ``exits`` is the directory of an exit set, ``judge`` a judge's name (``none``: full depth),
    ``threshold`` the score to leave at, ``risk`` a bound with a certificate instead of it,
    ``exit_layer`` one layer for every token, ``state`` what becomes of skipped layers. With
    ``lossless`` (true, or settings of it) exits draft and the last layer decides; with ``risk``
    as well, it decides about the drafts whose scores are below what is certified.
    """

    exits: str | PathLike[str] | None
    judge: str | None
    threshold: float | None
    risk: float | None
    exit_layer: int | None
    layers: Sequence[int] | None
    state: str
    decide_every: int
    screen: int | None
    lossless: bool | Lossless


class SamplingOptions(TypedDict, total=False):
    """How the next token is chosen, and when an answer ends: see ``GenerationSettings``.

    What is left out, or None, is as the checkpoint's ``generation_config.json`` has it, so that a
    checkpoint with ``do_sample`` samples unless ``temperature`` is 0; what that leaves out is off.
    """

    max_new_tokens: int | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float | None
    seed: int | None
    stop: str | Sequence[str]
    prefill_chunk: int


class Options(ExitOptions, SamplingOptions, total=False):
    """All that a call may say."""


_KNOWN = (*ExitOptions.__annotations__, *SamplingOptions.__annotations__)
# What a call says about exits takes the place of what was said at loading and contradicts it.
_INSTEAD_OF = {
    "threshold": ("risk", "exit_layer"),
    "risk": ("threshold", "exit_layer", "layers"),
    "exit_layer": ("exits", "judge", "threshold", "risk", "layers"),
    "judge": ("exits", "exit_layer"),
    "exits": ("judge", "exit_layer", "layers"),
    "layers": ("exits", "exit_layer", "risk"),
}


class Completion(Generation):
    """A generation that shows itself: its text as a string, colours of depth in a notebook."""

    @classmethod
    def of(cls, generation: Generation) -> Completion:
        return cls(**{name: getattr(generation, name) for name in cls.__dataclass_fields__})

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        from dynexit.reporting.depth import depth_summary

        return f"<Completion {self.text!r}: {depth_summary(self)}>"

    def _repr_html_(self) -> str:
        from dynexit.reporting.notebook import generation_html

        return generation_html(self)


class TokenStream:
    """The tokens of an answer as they come; ``result`` is the answer so far."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[GeneratedToken]:
        return iter(self._stream)

    @property
    def result(self) -> Completion:
        return Completion.of(self._stream.result)


class EarlyExitModel:
    """A loaded model and what it does unless a call says otherwise; ``load`` makes it."""

    def __init__(self, model: Model, defaults: Options) -> None:
        self.model = model
        self._defaults = defaults
        self._choices: dict[tuple[Wish, float | None], Choice] = {}
        self._settings(defaults)  # a mistake shows at loading
        self.choice(**defaults)

    @property
    def layers(self) -> int:
        """Of the backbone."""
        return self.model.backbone.depth

    @property
    def settings(self) -> GenerationSettings:
        """How a call chooses tokens and ends answers unless it says otherwise."""
        return self._settings(self._defaults)

    def generate(self, prompt: Prompt, **options: Unpack[Options]) -> Completion:
        """The answer to one prompt, a text or its token ids."""
        stream = self.stream(prompt, **options)
        for _ in stream:
            pass
        return stream.result

    def generate_batch(
        self, prompts: Sequence[Prompt], **options: Unpack[Options]
    ) -> list[Completion]:
        """The answers to several prompts, decoded together."""
        from dynexit.inference.generate import generate

        said = self._said(options)
        made = generate(self.model, list(prompts), self._settings(said), *self._way(said))
        return [Completion.of(one) for one in made]

    def stream(self, prompt: Prompt, **options: Unpack[Options]) -> TokenStream:
        """The answer to one prompt token by token; the tokens' texts joined are its text."""
        from dynexit.inference.generate import stream

        said = self._said(options)
        return TokenStream(stream(self.model, prompt, self._settings(said), *self._way(said)))

    def chat(self, messages: str | Sequence[Message], **options: Unpack[Options]) -> Completion:
        """The answer to a conversation in the words of the checkpoint's chat template.

        ``messages`` are ``{"role": "user", "content": ...}`` and the like, or one user's text.
        """
        stream = self.stream_chat(messages, **options)
        for _ in stream:
            pass
        return stream.result

    def stream_chat(
        self, messages: str | Sequence[Message], **options: Unpack[Options]
    ) -> TokenStream:
        """As ``chat``, token by token."""
        from dynexit.inference.chat_template import load_chat_template

        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        template = load_chat_template(self.model)
        prompt = template.encode(self.model.tokenizer, messages)
        return self.stream(prompt, **self.ending(template, options))

    def ending(self, template: ChatTemplate, options: Options) -> Options:
        """The options with the strings that end an answer of ``template`` among them."""
        stop = self._said(options).get("stop", ())
        given = (stop,) if isinstance(stop, str) else tuple(stop)
        return {**options, "stop": (*given, *template.stop)}

    def choice(self, **options: Unpack[Options]) -> Choice:
        """Judge, threshold, state policy and exit policy that a call with these options has."""
        return self._choose(self._said(options))

    def _said(self, options: Options) -> Options:
        if unknown := sorted(set(options) - set(_KNOWN)):
            raise UserError(f"{unknown[0]} is no option; there are {', '.join(_KNOWN)}")
        dropped = {other for name in options for other in _INSTEAD_OF.get(name, ())}
        if options.get("judge") == NONE:
            dropped |= set(ExitOptions.__annotations__)
        kept = {name: value for name, value in self._defaults.items() if name not in dropped}
        return cast(Options, {**kept, **options})

    def _settings(self, said: Mapping[str, Any]) -> GenerationSettings:
        given = {name: said.get(name) for name in SamplingOptions.__annotations__}
        return from_generation_config(self.model.generation, **given)

    def _way(self, said: Options) -> tuple[ExitPolicy | None, Lossless | None]:
        """The exits, and where they only draft, how."""
        from dynexit.evaluation.certified import certified_drafting

        choice = self._choose(said)
        return choice.policy, certified_drafting(choice, _lossless(said))

    def _choose(self, said: Options) -> Choice:
        from dynexit.evaluation.certified import choose_certified

        key = (_wish(said), said.get("risk"))
        if key not in self._choices:
            self._choices[key] = choose_certified(self.model, *key)
        return self._choices[key]


def load(
    name: str | PathLike[str],
    *,
    dtype: str | None = None,
    device: str = "auto",
    **options: Unpack[Options],
) -> EarlyExitModel:
    """Load a model: a directory with a Hugging Face checkpoint, a hub id, ``reference:mistral`` or
    ``reference:mamba2``.

    The options hold for every call that does not say otherwise. Without a word about exits every
    token runs through all layers; without one about sampling the checkpoint's
    ``generation_config.json`` decides. Raises ``UserError`` for a mistake in any of them.
    """
    from dynexit.models.device import find_device, find_dtype
    from dynexit.models.loading import load_model

    model = load_model(str(name), find_dtype(dtype), find_device(device))
    return EarlyExitModel(model, options)


def _wish(said: Mapping[str, Any]) -> Wish:
    given = {name: said[name] for name in Wish.__dataclass_fields__ if name in said}
    wish = Wish(**given | {"lossless": bool(said.get("lossless"))})
    exits, layers = wish.exits, wish.layers
    return replace(
        wish,
        exits=None if exits is None else Path(exits),
        layers=None if layers is None else tuple(layers),
    )


def _lossless(said: Mapping[str, Any]) -> Lossless | None:
    from dynexit.inference.speculative import Lossless

    wanted = said.get("lossless", False)
    if isinstance(wanted, Lossless):
        return wanted
    if not isinstance(wanted, bool):
        raise UserError(f"lossless is {wanted!r}; give True, False or settings of it")
    return Lossless() if wanted else None
