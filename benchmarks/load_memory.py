"""Peak memory of loading a checkpoint and reading a few tokens, against its size.

    python benchmarks/load_memory.py --size-gb 2 --work /tmp/load-memory

writes a random bf16 checkpoint of about that size in several shards (once), loads it in a fresh
process, runs one forward of a few tokens, which reads every weight, and reports the peak resident
set size (``ru_maxrss``) against 1.1 N + 500 MB for N bytes of weights. Pages of mapped files count
in it, although the system can drop them at any time. Exits with 1 where the bound is broken.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

HIDDEN, VOCAB, LIMIT_SHARE, LIMIT_REST = 2048, 32768, 1.1, 500e6
FAMILIES: dict[str, dict[str, Any]] = {
    "mistral": {
        "intermediate_size": 5632,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 4096,
    },
    "mamba2": {"num_heads": 64, "head_dim": 64, "state_size": 128, "n_groups": 8, "expand": 2},
}


def config_of(family: str, size: float) -> dict[str, Any]:
    """A ``config.json`` with as many layers as make about ``size`` bytes in bf16."""
    from dynexit.models.cost import parameters
    from dynexit.models.families import parse_config

    raw: dict[str, Any] = {
        "model_type": family,
        "vocab_size": VOCAB,
        "hidden_size": HIDDEN,
        "dtype": "bfloat16",
        **FAMILIES[family],
    }
    one, two = (2 * parameters(parse_config(raw | {"num_hidden_layers": n})) for n in (1, 2))
    return raw | {"num_hidden_layers": max(1, 1 + round((size - one) / (two - one)))}


def measure(directory: Path, tokens: int) -> dict[str, float]:
    """Peak memory in bytes after the imports, after loading, and after one forward."""
    import torch

    from dynexit.models import load_backbone

    peaks = {"imports": _peak()}
    backbone = load_backbone(directory)
    peaks["loaded"] = _peak()
    with torch.inference_mode():
        cache = backbone.new_cache(1, tokens)
        hidden = backbone.embed(torch.arange(tokens)[None])
        place = backbone.place([0], [tokens])
        backbone.readout(backbone.run(hidden, cache, 0, backbone.depth, place)[:, -1])
    peaks["forward"] = _peak()
    peaks["weights"] = sum(p.nbytes for p in backbone.parameters())
    peaks["threads"] = torch.get_num_threads()
    return peaks


def _peak() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024.0  # Linux counts in KiB


def write(directory: Path, family: str, size: float) -> None:
    """Write the checkpoint, unless it is there."""
    from dynexit.models.random_checkpoint import write_checkpoint

    if not (directory / "config.json").exists():
        write_checkpoint(config_of(family, size), directory)


def in_fresh_process(*arguments: str) -> str:
    """Standard output of this script with other arguments.

    Writing has a process of its own too: a child begins with the peak of its parent.
    """
    command = [sys.executable, __file__, *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def report(family: str, tokens: int, peaks: dict[str, float]) -> bool:
    """Print the table and the JSON line; whether the bound holds."""
    limit = LIMIT_SHARE * peaks["weights"] + LIMIT_REST
    rows = [("weights", peaks["weights"]), ("bound", limit)]
    rows += [(f"peak, {stage}", peaks[stage]) for stage in ("imports", "loaded", "forward")]
    for name, value in rows:
        print(f"{name:16} {value / 1e6:9.0f} MB")
    holds = peaks["forward"] <= limit
    told = {"family": family, "tokens": tokens, "limit": limit, "holds": holds}
    print(json.dumps(told | peaks))
    return holds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", choices=sorted(FAMILIES), default="mistral")
    parser.add_argument("--size-gb", type=float, default=2.0)
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--work", type=Path, default=Path("load-memory"))
    parser.add_argument("--only", choices=("write", "measure"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    directory = options.work / f"{options.family}-{options.size_gb:g}gb"
    if options.only == "write":
        write(directory, options.family, options.size_gb * 1e9)
    elif options.only == "measure":
        print(json.dumps(measure(directory, options.tokens)))
    else:
        in_fresh_process(*sys.argv[1:], "--only", "write")
        peaks = json.loads(in_fresh_process(*sys.argv[1:], "--only", "measure"))
        sys.exit(0 if report(options.family, options.tokens, peaks) else 1)


if __name__ == "__main__":
    main()
