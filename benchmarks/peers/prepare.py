"""The same weights in every system's format, each written once into the work directory."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from process import WorkerError, telling
from safetensors.torch import load_file, save_file
from torch import Tensor

from dynexit.files import atomic_directory, atomic_path
from dynexit.models.random_checkpoint import write_checkpoint

HERE = Path(__file__).parent
OUTPUT = re.compile(r"layers\.(\d+)\.(?:.*\.)?(?:o_proj|out_proj|down_proj)\.(?:weight|bias)$")
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
        if name.startswith("identity-"):
            return self._identity(int(name.removeprefix("identity-")))
        return self._gguf(name)

    def _quantized(self, bits: str) -> Path:
        out = self._work / f"{self.checkpoint.name}-int{bits}"
        if not (out / "config.json").exists():
            command = ("-m", "dynexit", "quantize", str(self.checkpoint))
            _run([sys.executable, *command, "--bits", bits, "--out", str(out)])
        return out

    def _identity(self, layer: int) -> Path:
        """The layers after ``layer`` change nothing."""
        out = self._work / f"{self.checkpoint.name}-identity-{layer}"
        if not (out / "config.json").exists():
            with atomic_directory(out, marker="config.json") as folder:
                for file in sorted(self.checkpoint.iterdir()):
                    if file.suffix == ".safetensors":
                        save_file(_silenced(file, layer), folder / file.name, {"format": "pt"})
                    else:
                        shutil.copyfile(file, folder / file.name)
        return out

    def _gguf(self, kind: str) -> Path:
        out = self._work / f"{self.checkpoint.name}-{kind}.gguf"
        if not out.exists():
            source = [str(self.checkpoint)] if kind == "BF16" else [str(self._gguf("BF16"))]
            wanted = [] if kind == "BF16" else ["--type", kind]
            with atomic_path(out) as temporary:
                _run([self._python, str(HERE / "to_gguf.py"), *source, str(temporary), *wanted])
        return out


def _silenced(file: Path, layer: int) -> dict[str, Tensor]:
    """Tensors of a file, with zeros for what layers after ``layer`` add to hidden states."""
    tensors = load_file(file)
    for name, tensor in tensors.items():
        found = OUTPUT.search(name)
        if found and int(found[1]) >= layer:  # counted from 0 there
            tensor.zero_()
    return tensors


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
