"""dynexit as a worker.

Options: none for full depth, or ``judge`` (a kind), ``layers``, ``thresholds`` and ``state``.
Trained kinds have random weights: what they cost is the same. For drafts that are verified
``lossless``, with the ``layer`` after which all are made and whether their number is to ``adapt``.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from protocol import PROMPT, Decoded, Loaded, Prepared, serve

from dynexit.evaluation.bench.bytes_moved import BytesMoved
from dynexit.evaluation.bench.drafting import decode_with_drafts
from dynexit.exits.judges.registry import build_judge
from dynexit.exits.policy import ExitPolicy
from dynexit.exits.skipped import skipped_state
from dynexit.inference.decoder import Decoder
from dynexit.inference.speculative.settings import Lossless
from dynexit.models import Backbone, load_backbone


def load(weights: Path, threads: int) -> Loaded:
    torch.set_num_threads(threads)
    backbone = load_backbone(weights)
    first = first_token(backbone)

    def prepare(options: Mapping[str, Any]) -> Prepared:
        if (drafts := options.get("lossless")) is not None:
            how = Lossless(adapt=drafts["adapt"])
            return Prepared(None, partial(draft, backbone, drafts["layer"], how, first))
        exits = policy(backbone, options)
        return Prepared(bytes_read(backbone, exits), partial(decode, backbone, exits, first))

    return Loaded(version("dynexit"), prepare)


def policy(backbone: Backbone, options: Mapping[str, Any]) -> ExitPolicy | None:
    if not options:
        return None
    judge = build_judge(options["judge"], options["layers"], backbone.config.hidden)
    return ExitPolicy(judge, tuple(options["thresholds"]), skipped_state(options["state"]))


def first_token(backbone: Backbone) -> int:
    """The full model's answer to the prompt: with the others, a prompt runs at full depth."""
    decoder = Decoder(backbone, 1, len(PROMPT))
    decoder.prefill([PROMPT[:-1]])
    return int(decoder.step([PROMPT[-1]]).logits.argmax())


def decode(backbone: Backbone, exits: ExitPolicy | None, first: int, tokens: int) -> Decoded:
    decoder = Decoder(backbone, 1, len(PROMPT) + tokens, exits)
    decoder.prefill([PROMPT])
    ids = [first]
    begin = time.perf_counter()
    for _ in range(tokens - 1):
        ids.append(int(decoder.step([ids[-1]]).logits.argmax()))
    return Decoded(time.perf_counter() - begin, tokens - 1, ids)


def draft(backbone: Backbone, layer: int, how: Lossless, first: int, tokens: int) -> Decoded:
    judge = build_judge("fixed", (layer,), backbone.config.hidden)
    exits = ExitPolicy(judge, (0.0,), skipped_state("recompute"))
    made = decode_with_drafts(backbone, exits, how, [*PROMPT, first], tokens - 1, warm_up=0)
    told = {"drafts": made.drafts, "accepted": made.accepted, "cycles": made.cycles}
    return Decoded(made.seconds, tokens - 1, [first, *made.ids], told)


def bytes_read(backbone: Backbone, exits: ExitPolicy | None) -> int:
    """Weights and state of a token; it leaves at the first exit with a threshold within reach."""
    moved = BytesMoved(backbone.config, None, len(PROMPT))
    within = () if exits is None else zip(exits.layers, exits.thresholds, strict=True)
    reached = [layer for layer, threshold in within if threshold <= 1.0]
    return moved.leaving(reached[0], exits) if exits and reached else moved.full()


if __name__ == "__main__":
    serve(load)
