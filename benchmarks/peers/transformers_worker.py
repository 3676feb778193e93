"""``transformers``' own ``generate`` as a worker.

Options: ``cache`` (``dynamic`` or ``static``) and ``compile`` (its forward by ``torch.compile``).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from hugging_face import load_model, sharing, weight_bytes
from protocol import PROMPT, Decoded, Loaded, Prepared, serve
from torch import Tensor
from transformers import PreTrainedModel
from transformers.generation import BaseStreamer


class Moments(BaseStreamer):
    """Notes when each token came; the first one told is the prompt."""

    def __init__(self) -> None:
        self.moments: list[float] = []

    def put(self, value: Tensor) -> None:
        self.moments.append(time.perf_counter())

    def end(self) -> None:
        pass


def load(weights: Path, threads: int) -> Loaded:
    model = load_model(weights, threads)

    def prepare(options: Mapping[str, Any]) -> Prepared:
        used = model
        if options["compile"]:
            used = sharing(model)
            used.forward = torch.compile(used.forward, dynamic=False)
        cache = "static" if options["cache"] == "static" else None
        return Prepared(weight_bytes(model), partial(decode, used, cache))

    return Loaded(transformers.__version__, prepare)


@torch.inference_mode()
def decode(model: PreTrainedModel, cache: str | None, tokens: int) -> Decoded:
    streamer = Moments()
    prompt = torch.tensor([PROMPT])
    text = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=tokens,
        do_sample=False,
        pad_token_id=0,
        cache_implementation=cache,
        disable_compile=True,  # of its own choosing; compiled here where the options say so
        streamer=streamer,
    )
    first, last = streamer.moments[1], streamer.moments[-1]
    return Decoded(last - first, len(streamer.moments) - 2, text[0, len(PROMPT) :].tolist())


if __name__ == "__main__":
    serve(load)
