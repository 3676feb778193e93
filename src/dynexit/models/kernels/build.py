"""Compiles the kernels once for this machine and loads them.

The library lies in the user's cache under a name made of the sources, the compiler and the
processor, so that a change of any of them compiles anew and machines can share a home directory.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
from pathlib import Path

import torch

from dynexit.files import atomic_path

SWITCH = "DYNEXIT_KERNELS"  # "off" leaves everything to PyTorch
_SOURCES = (
    *(
        "vectors.h",
        "team.h",
        "span.h",
        "matrix.h",
        "result.h",
        "groups.h",
        "sums.h",
        "wholes.h",
        "nibbles.h",
        "integers.h",
        "tiles.h",
        "norm.h",
        "attention.h",
        "recurrent.h",
        "layer.h",
    ),
    *("matrix.c", "tiles.c", "integers.c", "norm.c", "activation.c", "recurrent.c"),
    *("attention.c", "mixers.c", "layer.c"),
)
_FLAGS = (
    "-O3",
    "-march=native",
    "-fopenmp",
    "-fPIC",
    "-shared",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-Wno-psabi",
    "-Werror=implicit-function-declaration",
)
_OWN_NAMES = "-Wl,-Bsymbolic"  # no other library's function of the same name is taken for ours
_WIDE = "-mprefer-vector-width=512"  # x86 alone knows it


@functools.cache
def library() -> ctypes.CDLL | None:
    """The kernels, or None where they are switched off or can't be compiled."""
    compiler = _compiler()
    if compiler is None or os.environ.get(SWITCH, "on").lower() in ("off", "0", "no"):
        return None
    try:
        return _typed(ctypes.CDLL(str(_compiled(compiler))))
    except (OSError, subprocess.SubprocessError):
        return None


def loaded() -> ctypes.CDLL:
    """The kernels, where ``library`` has said that they are there."""
    found = library()
    assert found is not None, "ask usable() before"
    return found


@functools.cache
def tiled() -> bool:
    """Whether products in bf16 go through the processor's matrix unit; see ``tiles.c``."""
    return library() is not None and bool(loaded().tiles_ready())


def describe() -> str:
    """What computes the matrix-vector products here, for reports."""
    if library() is not None:
        tiles = ", bf16 by AMX tiles" if tiled() else ""
        return f"own kernels ({Path(_compiler() or '').name}{tiles})"
    if os.environ.get(SWITCH, "on").lower() in ("off", "0", "no"):
        return f"PyTorch ({SWITCH}=off)"
    return "PyTorch (no C compiler that can build the kernels)"


def _typed(library: ctypes.CDLL) -> ctypes.CDLL:
    """With the types of arguments; most take a pointer to a structure."""
    pointer, long, real, flag = ctypes.c_void_p, ctypes.c_long, ctypes.c_float, ctypes.c_int
    library.multiply.argtypes = (pointer, long)
    for name in ("attend", "conv_step", "ssd_step", "selective_step"):
        getattr(library, name).argtypes = (pointer,)
    library.rms_norm.argtypes = (pointer, long, pointer, pointer, long, long, real, flag, flag)
    library.group_norm.argtypes = (*(pointer,) * 3, *(long,) * 3, real, flag)
    library.activate.argtypes = (*(pointer,) * 3, long, long, flag, flag)
    library.run_layer.argtypes = (pointer, pointer)
    library.layer_room.argtypes = (pointer, pointer)
    library.layer_room.restype = long
    return library


def _compiler() -> str | None:
    for name in (os.environ.get("CC"), "cc", "gcc", "clang"):
        if name and (found := shutil.which(name)):
            return found
    return None


def _compiled(compiler: str) -> Path:
    """The library's file, compiled if it is not there yet."""
    folder = Path(__file__).parent
    key = hashlib.sha256("\n".join((compiler, *_FLAGS, _processor())).encode())
    for name in _SOURCES:
        key.update((folder / name).read_bytes())
    place = _cache() / f"kernels-{key.hexdigest()[:24]}.so"
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with atomic_path(place) as temporary:
            _compile(compiler, folder, temporary)
    return place


def _compile(compiler: str, folder: Path, out: Path) -> None:
    files = [str(folder / name) for name in _SOURCES if name.endswith(".c")]
    wide = [_WIDE] if platform.machine() in ("x86_64", "AMD64") else []
    # PyTorch brings its own OpenMP; a second one beside it would fight over the cores
    own = [str(path) for path in (Path(torch.__file__).parent / "lib").glob("libgomp*")]
    linked = [_OWN_NAMES] if platform.system() == "Linux" else []
    command = [compiler, *_FLAGS, *wide, *files, *own[:1], *linked, "-lm", "-o", str(out)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "dynexit"


def _processor() -> str:
    """What ``-march=native`` depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    return "\n".join(dict.fromkeys(s for s in lines if s.startswith(("model name", "flags"))))
