"""What the workers on top of ``transformers`` share: its model, and a clock of its steps."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from pathlib import Path

import torch
from protocol import Decoded
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel


def load_model(weights: Path, threads: int) -> PreTrainedModel:
    """The checkpoint in its own dtype, with SDPA where it has attention."""
    torch.set_num_threads(threads)
    model = AutoModelForCausalLM.from_pretrained(weights, dtype="auto")
    model.generation_config.eos_token_id = None  # random weights may say any token
    return model.eval()


def sharing(model: PreTrainedModel) -> PreTrainedModel:
    """Another model on the same weights, for a library that changes the model it is given."""
    tensors = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})


def weight_bytes(model: PreTrainedModel) -> int:
    """All weights but the embedding, of which a token reads one row."""
    total = parameter_bytes(model)
    embedding = model.get_input_embeddings().weight
    head = model.get_output_embeddings().weight
    return total if head is embedding else total - embedding.nbytes


def parameter_bytes(module: nn.Module) -> int:
    return sum(parameter.nbytes for parameter in module.parameters())


def timed(model: PreTrainedModel, generate: Callable[[], list[int]]) -> Decoded:
    """Decode and time the steps by the moments at which a token is embedded.

    The first is the prompt's, the second begins the first step; the last step ends with
    ``generate``, which gives the new tokens.
    """
    moments: list[float] = []

    def note(*_: object) -> None:
        moments.append(time.perf_counter())

    hook = model.get_input_embeddings().register_forward_pre_hook(note)
    try:
        ids = generate()
    finally:
        hook.remove()
    return Decoded(time.perf_counter() - moments[1], len(moments) - 1, ids)


def new_ids(text: Tensor, prompt: int) -> list[int]:
    """What came after the prompt in a text [1, T] or [T]."""
    return [int(token) for token in text.flatten()[prompt:]]
