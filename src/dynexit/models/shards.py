"""Writing a checkpoint directory: tensors in shards of bounded size, and the files beside them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from dynexit.errors import UserError
from dynexit.files import write_json
from dynexit.models.checkpoint import INDEX, SINGLE

SHARD_BYTES = 1 << 30
_COMPANIONS = ("*.json", "tokenizer*", "*.txt", "*.jinja", "*.model", "LICENSE*", "NOTICE*")


class ShardWriter:
    """Takes tensors one by one and writes them to ``directory``, ``limit`` bytes a file.

    ``shown`` is what errors call the directory, which has a temporary name until it is whole.
    """

    def __init__(self, directory: Path, shown: Path, limit: int) -> None:
        self._directory, self._shown, self._limit = directory, shown, limit
        self._held: dict[str, Tensor] = {}
        self._files: list[list[str]] = []
        self._bytes = self._total = 0

    def add(self, name: str, tensor: Tensor) -> None:
        """Take ``tensor`` under ``name``, and write all that is held if it gets too much."""
        self._held[name] = tensor.contiguous()
        self._bytes += tensor.nbytes
        if self._bytes >= self._limit:
            self._write()

    def finish(self) -> None:
        """Write what is left, give the files their names, and the index if there are several."""
        if self._held:
            self._write()
        count = len(self._files)
        names = [f"model-{k + 1:05d}-of-{count:05d}.safetensors" for k in range(count)]
        names = [SINGLE] if count == 1 else names
        for number, name in enumerate(names):
            self._part(number).rename(self._directory / name)
        if count > 1:
            where = {t: names[k] for k, tensors in enumerate(self._files) for t in tensors}
            index = {"metadata": {"total_size": self._total}, "weight_map": where}
            write_json(self._directory / INDEX, index)

    def _write(self) -> None:
        part = self._part(len(self._files))
        part.touch()
        mode = part.stat().st_mode & 0o777
        try:
            save_file(self._held, part, {"format": "pt"})
        except SafetensorError as error:
            raise UserError(
                f"cannot write {self._shown}: {error}; free space or choose another directory"
            ) from None
        part.chmod(mode)  # safetensors makes a private file
        self._files.append(list(self._held))
        self._total += self._bytes
        self._held, self._bytes = {}, 0

    def _part(self, number: int) -> Path:
        return self._directory / f"part-{number}.safetensors"


def copy_companions(source: Path, directory: Path, config: Mapping[str, Any]) -> None:
    """Copy tokenizer, generation settings and licence of a checkpoint; write ``config``."""
    found = {path for pattern in _COMPANIONS for path in source.glob(pattern)}
    for path in sorted(found):
        if path.is_file() and path.name not in (INDEX, "config.json"):
            shutil.copyfile(path, directory / path.name)
    write_json(directory / "config.json", config)


def refuse_full_disk(out: Path, needed: int) -> None:
    """Say before the work that ``needed`` bytes will not fit where ``out`` is to be."""
    place = next(parent for parent in out.absolute().parents if parent.exists())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise UserError(
            f"cannot write {out}: it takes {needed / 1e9:.1f} GB and the disk has "
            f"{free / 1e9:.1f} GB free; free space or choose another disk"
        )
