"""What reading a prompt costs, apart from the answer.

The prompt without its last token runs at full depth, whatever the policy, in chunks that read each
layer's weights once; nothing is read out. A recurrent judge sees it too, at every exit. Its last
token is fed by the first decode step and belongs to the answer (see ``cost``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from dynexit.exits.judges import TrainedJudge
from dynexit.exits.policy import ExitPolicy
from dynexit.inference.cost import DecodingCost, LayerTable, judge_bytes
from dynexit.inference.settings import GenerationSettings
from dynexit.models.config import AttentionConfig, BackboneConfig, LayerConfig, Mamba2Config
from dynexit.models.cost import advance_cost, embedding_cost, layer_cost
from dynexit.models.mamba2 import Mamba2

CHUNK = GenerationSettings().prefill_chunk


def prompt_cost(
    prompts: int | Iterable[int],
    config: BackboneConfig,
    policy: ExitPolicy | None = None,
    dtype_bytes: int | None = None,
    chunk: int = CHUNK,
) -> DecodingCost:
    """Cost of reading prompts of that many tokens, and the full model's, one prompt at a time.

    FLOPs are those of a token's own attention, to the tokens before it; that a block may compute
    with keys a token doesn't see is not counted. Mamba-2 is counted in its matrix form.
    """
    lengths = [prompts] if isinstance(prompts, int) else list(prompts)
    read = [length - 1 for length in lengths if length > 1]
    if not read:
        return DecodingCost()
    each = LayerTable(config, dtype_bytes).upto(np.arange(max(read)))[:, config.depth, 0]
    upto = np.concatenate([[0], each.cumsum()])
    flops = sum(int(upto[tokens]) + _scans(config, tokens, chunk) for tokens in read)
    moved = sum(_bytes(config, tokens, chunk, dtype_bytes) for tokens in read)
    layers = sum(read) * config.depth
    return DecodingCost(
        flops=flops + sum(read) * _watched(policy, config),
        bytes=moved + sum(_judge_bytes(policy, config, tokens, chunk) for tokens in read),
        layers=layers,
        full_flops=flops,
        full_bytes=moved,
        full_layers=layers,
    )


def _scans(config: BackboneConfig, tokens: int, chunk: int) -> int:
    """FLOPs that the matrix form of Mamba-2's scans takes more than its recurrence would.

    In a block of Q tokens each has 2 Q products with B and with x, and 4 of every element of the
    state, which is put together at the block's end and read at the next one's start; the recurrence
    has 5 of those. A last block is filled up.
    """
    total = 0
    widths = [min(chunk, tokens - begin) for begin in range(0, tokens, chunk)]
    for mixer in (layer.mixer for layer in config.layers):
        if not isinstance(mixer, Mamba2Config):
            continue
        size, inner = mixer.state, mixer.inner
        for width in (width for width in widths if width > 1):  # one token is a step
            block = min(mixer.chunk, width)
            filled = -(-width // block) * block
            matrix = 2 * block * (mixer.groups * size + inner) + 4 * inner * size
            total += filled * matrix - width * 5 * inner * size
    return total


def _bytes(config: BackboneConfig, tokens: int, chunk: int, dtype_bytes: int | None) -> int:
    """Rows of the embedding, and for each chunk weights and state."""
    total = tokens * embedding_cost(config, dtype_bytes).bytes
    for begin in range(0, tokens, chunk):
        width = min(chunk, tokens - begin)
        for index in range(config.depth):
            whole = layer_cost(config, index, 0, dtype_bytes)
            state = whole.state_bytes
            mixer = config.layers[index].mixer
            if isinstance(mixer, AttentionConfig):
                seen = begin + width
                if mixer.window is not None:
                    seen = min(seen, mixer.window + width - 1)
                state = advance_cost(config, index, dtype_bytes).state_bytes * (seen + width)
            total += whole.weight_bytes + state
    return total


def _watched(policy: ExitPolicy | None, config: BackboneConfig) -> int:
    """FLOPs of a recurrent judge for each token of the prompt: only its state is computed."""
    return sum(advance_cost(alone, 0).flops for alone in _mixers(policy, config))


def _judge_bytes(policy: ExitPolicy | None, config: BackboneConfig, tokens: int, chunk: int) -> int:
    """A whole check's bytes at each exit, once a chunk."""
    if policy is None:
        return 0
    exits = sum(1 for _ in _mixers(policy, config))
    return -(-tokens // chunk) * exits * judge_bytes(policy).bytes


def _mixers(policy: ExitPolicy | None, config: BackboneConfig) -> Iterator[BackboneConfig]:
    """Each block of a judge that reads prompts, as a backbone of its own; others have none."""
    if policy is None or not isinstance(policy.judge, TrainedJudge) or not policy.judge.recurrent:
        return
    for module in policy.judge.modules():
        if isinstance(module, Mamba2):
            yield replace(config, layers=(LayerConfig(module.config),))
