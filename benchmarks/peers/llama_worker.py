"""llama.cpp as a worker, through the plain functions of llama-cpp-python.

Options: ``repack``, whether llama.cpp may lay weights out anew for the processor
(``use_extra_bufts``). It is mostly faster, and has crashed on some processors.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
from gguf import GGUFReader
from numpy.typing import NDArray
from protocol import PROMPT, Decoded, Loaded, Prepared, serve

CONTEXT = 1024
FLOATS = ctypes.POINTER(ctypes.c_float)


def load(weights: Path, threads: int) -> Loaded:
    llama_cpp.llama_backend_init()

    def prepare(options: Mapping[str, Any]) -> Prepared:
        session = Session(weights, threads, options["repack"])
        return Prepared(weight_bytes(weights), partial(decode, session))

    return Loaded(llama_cpp.__version__, prepare)


class Session:
    """A model and one text."""

    def __init__(self, weights: Path, threads: int, repack: bool) -> None:
        wanted = llama_cpp.llama_model_default_params()
        wanted.use_extra_bufts = repack
        wanted.n_gpu_layers = 0
        self._model = llama_cpp.llama_model_load_from_file(bytes(weights), wanted)
        if not self._model:
            raise ValueError(f"llama.cpp did not load {weights.name}")
        context = llama_cpp.llama_context_default_params()
        context.n_ctx = context.n_batch = CONTEXT
        context.n_threads = context.n_threads_batch = threads
        self._context = llama_cpp.llama_init_from_model(self._model, context)
        if not self._context:
            raise ValueError(f"llama.cpp made no context for {weights.name}")
        vocabulary = llama_cpp.llama_model_get_vocab(self._model)
        self._vocab = llama_cpp.llama_vocab_n_tokens(vocabulary)

    def clear(self) -> None:
        """Forget the text."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)

    def feed(self, *ids: int) -> int:
        """Read tokens and give the most probable next one."""
        tokens = (llama_cpp.llama_token * len(ids))(*ids)
        batch = llama_cpp.llama_batch_get_one(tokens, len(ids))
        if llama_cpp.llama_decode(self._context, batch):
            raise RuntimeError("llama_decode failed")
        return int(self._logits().argmax())

    def _logits(self) -> NDArray[np.float32]:
        pointer = llama_cpp.llama_get_logits_ith(self._context, -1)
        return np.ctypeslib.as_array(ctypes.cast(pointer, FLOATS), shape=(self._vocab,))


def decode(session: Session, tokens: int) -> Decoded:
    session.clear()
    ids = [session.feed(*PROMPT)]
    begin = time.perf_counter()
    for _ in range(tokens - 1):
        ids.append(session.feed(ids[-1]))
    return Decoded(time.perf_counter() - begin, tokens - 1, ids)


def weight_bytes(weights: Path) -> int:
    """All weights but the embedding, of which a token reads one row."""
    sizes = {tensor.name: int(tensor.n_bytes) for tensor in GGUFReader(weights).tensors}
    if "output.weight" in sizes:
        del sizes["token_embd.weight"]
    return sum(sizes.values())


if __name__ == "__main__":
    serve(load)
