"""Do the systems compute the same? On small fp32 checkpoints their greedy tokens should be equal.

    python benchmarks/peers/identity.py --python .venv-peers/bin/python --work /tmp/peers-identity

For each family, full depth is compared with ``transformers``; economize at half depth with dynexit
under the state policy *propagate*, which is what CALM does; TIDE, which keeps the keys and values
of the full model, with dynexit under *recompute*, which gives the same. Exits with 1 where tokens
differ; a system that is not installed is told and left out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prepare import Weights, checkpoint_of
from rounds import Crew, Measured, measure
from systems import System, systems

TOKENS = 24
COMMON: dict[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 256,
    "num_hidden_layers": 6,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "dtype": "float32",
}
SSM: dict[str, Any] = {
    "conv_kernel": 4,
    "expand": 2,
    "layer_norm_epsilon": 1e-5,
    "residual_in_fp32": True,
    "use_bias": False,
    "use_conv_bias": True,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "mistral": {
        "architectures": ["MistralForCausalLM"],
        "intermediate_size": 512,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1e4,
        "sliding_window": None,
    },
    "mamba2": {
        **SSM,
        "architectures": ["Mamba2ForCausalLM"],
        "num_heads": 8,
        "head_dim": 64,
        "state_size": 64,
        "n_groups": 1,
        "chunk_size": 64,
    },
    "mamba": {
        **SSM,
        "architectures": ["MambaForCausalLM"],
        "intermediate_size": 512,
        "state_size": 16,
        "time_step_rank": 32,
    },
}


def pairs(family: str, depth: int) -> Iterator[tuple[str, str]]:
    """Names of systems whose tokens should be equal."""
    half, full = depth // 2, "transformers (dynamic cache)"
    yield "dynexit bf16", full
    yield "llama.cpp BF16 (as in the file)", full
    if family == "mistral":
        yield "transformers (static cache)", full
        yield "economize CALM state, none leaves", full
        yield "TIDE, none leaves", full
        leaving = f"dynexit bf16, all leave at {half}"
        yield f"economize CALM state, all leave at {half}", f"{leaving}, propagate"
        yield f"economize CALM softmax, all leave at {half}", f"{leaving}, propagate"
        yield f"TIDE, all leave at {half}", f"{leaving}, recompute"


def decoded(family: str, options: argparse.Namespace) -> dict[str, Measured]:
    """What every system in a pair says, by its name."""
    config = {**COMMON, **CONFIGS[family], "model_type": family}
    checkpoint = checkpoint_of(config, options.work / family)
    depth = COMMON["num_hidden_layers"]
    wanted = {name for pair in pairs(family, depth) for name in pair}
    asked: list[System] = [one for one in systems(family, depth) if one.name in wanted]
    weights = Weights(checkpoint.resolve(), options.work.resolve(), options.python)
    with Crew(weights, options.python, 1, options.work / "logs" / family) as crew:
        return {one.system.name: one for one in measure(crew, asked, 1, TOKENS)}


def equal(one: Measured, other: Measured, same: str) -> bool:
    """Tell of a pair; False where tokens differ."""
    for each in (one, other):
        if each.reason is not None:
            print(f"  left out  {one.system.name}: {each.reason}")
            return True
    count = min(len(one.ids), len(other.ids))
    holds = count > 1 and one.ids[:count] == other.ids[:count]
    print(f"  {'equal' if holds else 'DIFFER':8}  {one.system.name} = {same}, {count} tokens")
    return holds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--python", type=Path, default=Path(".venv-peers/bin/python"))
    parser.add_argument("--work", type=Path, required=True)
    options = parser.parse_args()
    hold = True
    for family in CONFIGS:
        print(family, flush=True)
        found = decoded(family, options)
        for name, other in pairs(family, COMMON["num_hidden_layers"]):
            hold &= equal(found[name], found[other], other)
    sys.exit(0 if hold else 1)


if __name__ == "__main__":
    main()
