"""The texts of lm-evaluation-harness as a checkpoint's tokenizer reads them."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import jinja2
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import has_bos_prefix, resolve_max_length
from transformers import AutoTokenizer

from dynexit.errors import UserError
from dynexit.evaluation.harness.arguments import whole
from dynexit.models import Model

Pair = tuple[list[int], list[int]]


class TextLM(TemplateLM):  # type: ignore[misc]
    """The half of a harness model that turns texts into tokens, as the harness's ``hf`` does.

    ``max_length`` bounds the tokens the model sees; None is its context, or what its tokenizer
    says where the context has no end.
    """

    def __init__(self, model: Model, max_length: int | None = None) -> None:
        super().__init__()
        self.model = model
        self.tokenizer: Any = AutoTokenizer.from_pretrained(str(model.directory))
        self.max_length = self._max_length(max_length)

    def _max_length(self, given: int | None) -> int:
        limit = self.model.backbone.config.max_positions
        if given is None:
            return limit or int(resolve_max_length(None, self.tokenizer))
        length = whole("max_length", given)
        if limit is not None and length > limit:
            raise UserError(f"max_length={length}: the model's context holds {limit} tokens")
        return length

    @property
    def eot_token_id(self) -> int | None:
        """The token that ends texts."""
        end: int | None = self.tokenizer.eos_token_id
        return self.model.eos_ids[0] if end is None and self.model.eos_ids else end

    @property
    def prefix_token_id(self) -> int:
        """The token before a text that has nothing before it."""
        begin = self.tokenizer.bos_token_id
        token = self.eot_token_id if begin is None else int(begin)
        if token is None:
            raise UserError(
                f"{self.model.directory}: the tokenizer names no token that begins or ends texts; "
                "set bos_token in its tokenizer_config.json"
            )
        return token

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **_: Any
    ) -> list[int]:
        """Token ids, special ones as the tokenizer puts them unless the text has its own."""
        bos = self.tokenizer.bos_token
        if add_special_tokens is None and bos and has_bos_prefix(string, bos):
            add_special_tokens = False
        options = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        return list(self.tokenizer.encode(string, **options))

    @cached_property
    def special_tokens(self) -> dict[str, int]:
        """Ids of special tokens by their text."""
        texts = self.tokenizer.all_special_tokens
        return {text: int(self.tokenizer.convert_tokens_to_ids(text)) for text in texts}

    def encode(self, context: str, continuation: str) -> Pair:
        """Both as tokens; a token that begins texts stands for an empty context."""
        if context:
            prompt, rest = self._encode_pair(context, continuation)
            return prompt, rest
        rest = self.tok_encode(continuation, add_special_tokens=False)
        if rest[:1] == [self.prefix_token_id]:
            return rest[:1], rest[1:]
        return [self.prefix_token_id], rest

    def cut(self, prompt: list[int], rest: list[int]) -> Pair:
        """As much of the end of the context as fits; the last token is never read."""
        if len(rest) > self.max_length:
            raise UserError(
                f"a continuation has {len(rest)} tokens, max_length is {self.max_length}; "
                "leave its task out or raise max_length"
            )
        return prompt[-(self.max_length + 1 - len(rest)) :], rest

    def prompt(self, context: str, max_new_tokens: int) -> list[int]:
        """The end of a context, with room for an answer."""
        if max_new_tokens >= self.max_length:
            raise UserError(
                f"max_gen_toks={max_new_tokens} leaves nothing of max_length={self.max_length} "
                "for the question; lower it"
            )
        ids = self.tok_encode(context) or [self.prefix_token_id]
        return ids[-(self.max_length - max_new_tokens) :]

    @property
    def tokenizer_name(self) -> str:
        """What the harness calls its cache of requests by."""
        return self.model.name.replace("/", "__").replace(":", "__")

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """The conversation as the checkpoint's template writes it; a template that knows no system
        message is given none."""
        options: dict[str, Any] = {
            "tokenize": False,
            "add_generation_prompt": add_generation_prompt,
            "continue_final_message": not add_generation_prompt,
        }
        if self.tokenizer.chat_template is None:
            raise UserError(f"{self.model.directory}: its tokenizer has no chat template")
        try:
            return str(self.tokenizer.apply_chat_template(chat_history, **options))
        except jinja2.exceptions.TemplateError:
            told = [message for message in chat_history if message["role"] != "system"]
            return str(self.tokenizer.apply_chat_template(told, **options))
