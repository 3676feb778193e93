"""A 7 B backbone on a small machine: random weights shaped as Mistral 7B or Codestral Mamba 7B.

    python benchmarks/seven_b.py --model mistral --work /tmp/seven-b

writes the 14.5 GB checkpoint (once), loads it memory-mapped in bf16, decodes at full depth and with
every token leaving after a quarter, half and three quarters of the layers, and reports time per
token, what of the byte saving arrives as time, and the peak memory of the process.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from random_checkpoint import write_checkpoint

from dynexit.exits.judges.fixed import Fixed
from dynexit.exits.policy import ExitPolicy
from dynexit.exits.skipped import skipped_state
from dynexit.inference.decoder import Decoder
from dynexit.models import Backbone, load_backbone

SHAPES: dict[str, dict[str, Any]] = {
    "mistral": {
        "model_type": "mistral",
        "vocab_size": 32768,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 32768,
        "rope_theta": 1e6,
        "rms_norm_eps": 1e-5,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "dtype": "bfloat16",
    },
    "codestral-mamba": {
        "model_type": "mamba2",
        "vocab_size": 32768,
        "hidden_size": 4096,
        "num_hidden_layers": 64,
        "num_heads": 128,
        "head_dim": 64,
        "state_size": 128,
        "n_groups": 8,
        "conv_kernel": 4,
        "expand": 2,
        "layer_norm_epsilon": 1e-5,
        "residual_in_fp32": True,
        "tie_word_embeddings": False,
        "dtype": "bfloat16",
    },
}


def policy(backbone: Backbone, layer: int, state: str) -> ExitPolicy:
    """Every token leaves after ``layer`` layers."""
    judge = Fixed((layer,), backbone.config.hidden)
    return ExitPolicy(judge, (0.0,), skipped_state(state))


def step_seconds(backbone: Backbone, exits: ExitPolicy | None, prompt: int, steps: int) -> float:
    """Median seconds of one decoding step after a prompt of that many tokens."""
    decoder = Decoder(backbone, 1, prompt + steps + 2, exits)
    decoder.prefill([list(range(5, 5 + prompt))])
    times = []
    for token in range(steps + 1):
        begin = time.perf_counter()
        decoder.step([token + 7])
        times.append(time.perf_counter() - begin)
    return statistics.median(times[1:])


def byte_share(backbone: Backbone, layer: int) -> float:
    """Weight bytes read for a token leaving after ``layer`` layers, against the full model."""
    layers = [sum(p.nbytes for p in block.parameters()) for block in backbone.blocks()]
    head = backbone.embedding.weight if backbone.head is None else backbone.head.weight
    return (sum(layers[:layer]) + head.nbytes) / (sum(layers) + head.nbytes)


def measure(backbone: Backbone, state: str, steps: int, repeats: int) -> list[dict[str, Any]]:
    """Full depth and three exits, interleaved over ``repeats`` rounds."""
    depth = backbone.depth
    depths = [depth, depth // 4, depth // 2, 3 * depth // 4]
    times: dict[int, list[float]] = {layer: [] for layer in depths}
    for _ in range(repeats):
        for layer in depths:
            exits = None if layer == depth else policy(backbone, layer, state)
            times[layer].append(step_seconds(backbone, exits, prompt=16, steps=steps))
    full = statistics.median(times[depth])
    rows = []
    for layer in depths:
        seconds, share = statistics.median(times[layer]), byte_share(backbone, layer)
        realised = None if layer == depth else (1 - seconds / full) / (1 - share)
        rows.append(
            {
                "exit_layer": layer,
                "seconds_per_token": seconds,
                "speedup": full / seconds,
                "byte_share": share,
                "realised_saving": realised,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", choices=sorted(SHAPES), default="mistral")
    parser.add_argument("--work", type=Path, required=True, help="folder with 15 GB to spare")
    parser.add_argument("--state", default="recompute", help="state policy of the exits")
    parser.add_argument("--layers", type=int, help="fewer layers, for a quick try")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    config = dict(SHAPES[options.model])
    if options.layers:
        config["num_hidden_layers"] = options.layers
    directory = options.work / f"{options.model}-{config['num_hidden_layers']}"
    if not (directory / "config.json").exists():
        write_checkpoint(config, directory)
    size = sum(f.stat().st_size for f in directory.glob("*.safetensors"))
    begin = time.perf_counter()
    backbone = load_backbone(directory)
    load_seconds = time.perf_counter() - begin
    rows = measure(backbone, options.state, options.steps, options.repeats)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    for row in rows:
        realised = row["realised_saving"]
        print(
            f"exit {row['exit_layer']:3d}  {row['seconds_per_token']:.3f} s/token  "
            f"speedup {row['speedup']:.2f}  "
            + ("full depth" if realised is None else f"realised saving {realised:.2f}")
        )
    print(
        json.dumps(
            {
                "model": options.model,
                "checkpoint_bytes": size,
                "load_seconds": load_seconds,
                "peak_memory_bytes": peak,
                "threads": torch.get_num_threads(),
                "rows": rows,
            }
        )
    )


if __name__ == "__main__":
    main()
