"""The same weights in every system's format, each written once into the work directory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from process import WorkerError, telling

from dynexit.files import atomic_path
from dynexit.models.random_checkpoint import write_checkpoint

HERE = Path(__file__).parent
LLAMA_TYPES = ("BF16", "Q8_0", "Q4_0", "Q4_K")


class Weights:
    """Paths of a checkpoint's weights by their name in ``systems``; made when first asked for."""

    def __init__(self, checkpoint: Path, work: Path, python: Path) -> None:
        self.checkpoint, self._work, self._python = checkpoint, work, str(python)

    def path(self, name: str) -> Path:
        """Where the weights are, or ``WorkerError`` where they cannot be made."""
        if name == "bf16":
            return self.checkpoint
        if name in ("int8", "int4"):
            return self._quantized(name.removeprefix("int"))
        return self._gguf(name)

    def _quantized(self, bits: str) -> Path:
        out = self._work / f"{self.checkpoint.name}-int{bits}"
        if not (out / "config.json").exists():
            command = ("-m", "dynexit", "quantize", str(self.checkpoint))
            _run([sys.executable, *command, "--bits", bits, "--out", str(out)])
        return out

    def _gguf(self, kind: str) -> Path:
        out = self._work / f"{self.checkpoint.name}-{kind}.gguf"
        if not out.exists():
            source = [str(self.checkpoint)] if kind == "BF16" else [str(self._gguf("BF16"))]
            wanted = [] if kind == "BF16" else ["--type", kind]
            with atomic_path(out) as temporary:
                _run([self._python, str(HERE / "to_gguf.py"), *source, str(temporary), *wanted])
        return out


def checkpoint_of(config: dict[str, object], directory: Path) -> Path:
    """A checkpoint with random weights, written unless it is there."""
    if not (directory / "config.json").exists():
        write_checkpoint(config, directory)
    return directory


def _run(command: Sequence[str]) -> None:
    with telling(command):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise WorkerError(lines[-1][:300] if lines else f"exit code {done.returncode}")
