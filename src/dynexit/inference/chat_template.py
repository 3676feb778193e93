"""Chat templates: from messages to the text that a model was trained to answer.

A template is Jinja2, as published with checkpoints and as transformers renders it. It comes from
strangers, so it runs in Jinja2's immutable sandbox.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from dynexit.errors import UserError
from dynexit.files import read_json
from dynexit.models.loading import Model
from dynexit.models.tokenizer import Tokenizer

Message = Mapping[str, Any]  # with "role" and "content"

TEMPLATE_FILE = "chat_template.jinja"
QUESTIONS = "questions"
_QUESTIONS_SOURCE = """
{%- set about_text = messages[0].role == "system" %}
{%- set asked, answered = ("Q:", "A:") if about_text else ("Question:", "Answer:") %}
{%- for message in messages %}
{%- set said = message.content | trim %}
{%- if message.role == "user" %}{{ asked + " " + said + "\n" }}
{%- elif message.role == "assistant" %}{{ answered + " " + said + "\n" }}
{%- else %}{{ said + "\n" }}
{%- endif %}
{%- endfor %}
{{- answered if add_generation_prompt }}"""


@dataclass(frozen=True)
class ChatTemplate:
    """A template, where it came from, and the texts of the special tokens it may write.

    ``plain`` templates write text only, and the tokenizer adds special tokens as to any prompt.
    ``stop`` are strings that end an answer, beside the model's own end token.
    """

    source: str
    place: str
    special_tokens: Mapping[str, str] = field(default_factory=dict)
    plain: bool = False
    stop: tuple[str, ...] = ()

    def render(self, messages: Sequence[Message]) -> str:
        """The text of a conversation up to where the next answer begins.

        Raises ``UserError`` for messages without role or content, and where the template refuses
        them (some take no system message, or want user and assistant by turns).
        """
        _check(messages)
        try:
            text = self._compiled.render(
                messages=list(messages), add_generation_prompt=True, **self.special_tokens
            )
            text.encode("utf-8")  # half a surrogate pair, which JSON can spell, is no text
            return text
        except Exception as error:  # a template is a program, which may fail in any way
            raise UserError(f"{self.place}: the chat template refused ({error})") from None

    def encode(self, tokenizer: Tokenizer, messages: Sequence[Message]) -> list[int]:
        """Token ids of a conversation up to where the next answer begins."""
        text = self.render(messages)
        return tokenizer.encode(text) if self.plain else tokenizer.encode_rendered(text)

    @cached_property
    def _compiled(self) -> jinja2.Template:
        try:
            return _environment().from_string(self.source)
        except jinja2.TemplateError as error:
            raise UserError(f"{self.place}: no valid chat template ({error})") from None


def questions_template() -> ChatTemplate:
    """Questions and answers by turns, for models without a template of their own: "Question:" and
    "Answer:", or "Q:" and "A:" about a text that the system's message holds. The reference pair was
    trained on both ("Story: ..." is such a text)."""
    stop = ("\nQuestion:", "\nAnswer:", "\nQ:", "\nA:")
    return ChatTemplate(_QUESTIONS_SOURCE, QUESTIONS, plain=True, stop=stop)


def load_chat_template(model: Model, wanted: str | None = None) -> ChatTemplate:
    """The template of a model, or the one ``wanted``: ``questions`` or a file with Jinja2 in it.

    A checkpoint has it in ``chat_template.jinja`` or in ``tokenizer_config.json``; the reference
    pair takes ``questions``. Raises ``UserError`` where a model has none.
    """
    directory = model.directory
    if wanted == QUESTIONS:
        return questions_template()
    if wanted is not None:
        return ChatTemplate(_text(Path(wanted)), wanted, _special_tokens(directory))
    file = directory / TEMPLATE_FILE
    if file.is_file():
        return ChatTemplate(_text(file), str(file), _special_tokens(directory))
    config = directory / "tokenizer_config.json"
    source = read_json(config).get("chat_template") if config.is_file() else None
    if source is not None:
        return ChatTemplate(_default(source, config), str(config), _special_tokens(directory))
    if model.name.startswith("reference:"):
        return questions_template()
    raise UserError(
        f"{model.name} has no chat template ({TEMPLATE_FILE}, or chat_template in "
        f"tokenizer_config.json); it may be no chat model: give --template {QUESTIONS}, or a file"
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: cannot be read as a chat template ({error}); "
            f"give --template {QUESTIONS} or a file with a Jinja2 template"
        ) from None


def _default(source: object, config: Path) -> str:
    """The template to use of ``chat_template``, which is a text or a list of named ones."""
    if isinstance(source, list):
        named = {str(one.get("name")): one.get("template") for one in source if type(one) is dict}
        source = named.get("default")
    if not isinstance(source, str):
        raise UserError(f"{config}: chat_template is no text and has no template named 'default'")
    return source


def _special_tokens(directory: Path) -> dict[str, str]:
    """``bos_token``, ``eos_token`` and the like, in the newer file's words where both have one."""
    found: dict[str, str] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        path = directory / name
        for key, value in (read_json(path) if path.is_file() else {}).items():
            text = value.get("content") if isinstance(value, dict) else value
            if key.endswith("_token") and isinstance(text, str):
                found[key] = text
    return found


def _check(messages: Sequence[Message]) -> None:
    if not messages:
        raise UserError("messages is empty; give one message at least")
    for at, message in enumerate(messages):
        for key in ("role", "content"):
            if not isinstance(message, Mapping) or key not in message:
                raise UserError(f"messages[{at}] has no {key!r}; give each a role and a content")


class _Generation(Extension):
    """``{% generation %}``, which marks answers for training, and is nothing here."""

    tags = {"generation"}  # noqa: RUF012 (so the base class has it)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> ImmutableSandboxedEnvironment:
    """Jinja2 with what templates of checkpoints expect of transformers."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **more: Any) -> str:
    """Jinja2's own filter escapes for HTML, which no model was trained on."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **more)


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
