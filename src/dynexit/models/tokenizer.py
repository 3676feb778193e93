"""Text to token ids and back, by the checkpoint's own tokenizer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import tokenizers

from dynexit.errors import UserError

_OTHER_FILES = ("tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt")


class Tokenizer(Protocol):
    """What decoding needs of a tokenizer."""

    def encode(self, text: str) -> list[int]:
        """Token ids of a prompt, special tokens as the checkpoint puts them."""
        ...

    def encode_rendered(self, text: str) -> list[int]:
        """Token ids of a text that holds its special tokens already, as chat templates write it."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text of the ids, special tokens left out."""
        ...


class FastTokenizer:
    """``tokenizer.json`` read by the tokenizers library."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with _refusing(f"{path}: not a tokenizer file"):
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))

    def encode(self, text: str) -> list[int]:
        with _refusing(f"{self._path}: the tokenizer cannot encode this text"):
            return list(self._tokenizer.encode(text).ids)

    def encode_rendered(self, text: str) -> list[int]:
        with _refusing(f"{self._path}: the tokenizer cannot encode this text"):
            return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        with _refusing(f"{self._path}: the tokenizer cannot decode its tokens"):
            return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))


@contextmanager
def _refusing(fault: str) -> Iterator[None]:
    """Turn what the library raises into a ``UserError``. For a file that contradicts itself it
    raises plain ``Exception``, or panics, which is no ``Exception``."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise UserError(f"{fault} ({error}); fetch it again") from None


class TransformersTokenizer:
    """Any other tokenizer transformers can read (sentencepiece and the like)."""

    def __init__(self, directory: Path) -> None:
        from transformers import AutoTokenizer

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(str(directory))
        except (OSError, ValueError, ImportError, TypeError, KeyError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(
                f"{directory}: no usable tokenizer here ({reason}); fetch its tokenizer.json"
            ) from None

    def encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text))

    def encode_rendered(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))


def load_tokenizer(directory: Path) -> Tokenizer:
    """The tokenizer of a checkpoint directory."""
    path = directory / "tokenizer.json"
    if path.exists():
        return FastTokenizer(path)
    if not any((directory / name).exists() for name in _OTHER_FILES):
        raise UserError(f"{directory}: tokenizer.json is missing; fetch it with the checkpoint")
    return TransformersTokenizer(directory)
