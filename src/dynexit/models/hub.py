"""From what a user names as MODEL to a directory with a checkpoint."""

from __future__ import annotations

from pathlib import Path

from dynexit.errors import UserError
from dynexit.reference.pair import reference_directory

_FILES = ["*.json", "*.safetensors", "tokenizer*", "*.txt", "*.jinja"]


def resolve_model(name: str) -> Path:
    """``reference:NAME``, a directory, or a hub id such as ``mistralai/Mistral-7B-v0.3``."""
    if name.startswith("reference:"):
        return reference_directory(name.removeprefix("reference:"))
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.is_file():
        raise UserError(f"{name}: is a file; give the directory that holds config.json")
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise UserError(f"{name}: no such directory; give a checkpoint's directory or a hub id")
    return _download(name)


def _download(repository: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                repository, allow_patterns=_FILES, ignore_patterns=["consolidated*", "original/*"]
            )
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{repository}: no such directory, and the hub did not give it ({reason})"
        ) from None
