"""``transformers``' own ``generate`` as a worker.

Options: ``cache`` (``dynamic`` or ``static``), ``compile`` (its forward by ``torch.compile``) and,
for drafts that are verified, ``drafts``: generation settings that ask for them.
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
    """Notes when tokens came, and how many; the first ones told are the prompt."""

    def __init__(self) -> None:
        self.moments: list[float] = []
        self.counts: list[int] = []

    def put(self, value: Tensor) -> None:
        self.moments.append(time.perf_counter())
        self.counts.append(value.numel())

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
        if (drafts := options.get("drafts")) is not None:
            used = sharing(model)
            used.generation_config.update(**drafts)  # of the assistant, which is the model itself
            return Prepared(None, partial(decode, used, cache, **drafts))
        return Prepared(weight_bytes(model), partial(decode, used, cache))

    return Loaded(transformers.__version__, prepare)


@torch.inference_mode()
def decode(model: PreTrainedModel, cache: str | None, tokens: int, **drafts: Any) -> Decoded:
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
        **drafts,
    )
    first, last = streamer.moments[1], streamer.moments[-1]
    return Decoded(last - first, sum(streamer.counts[2:]), text[0, len(PROMPT) :].tolist())


if __name__ == "__main__":
    serve(load)
