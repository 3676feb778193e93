"""A checkpoint of the Hugging Face kind as a GGUF file for llama.cpp.

    python to_gguf.py CHECKPOINT OUT.gguf                  # weights in the checkpoint's own dtype
    python to_gguf.py OUT.gguf OUT-Q4_K.gguf --type Q4_K   # or Q8_0, Q4_0, by llama.cpp itself

Mistral, Mamba and Mamba-2 are known. The file has no vocabulary, so one decodes token ids with it.
Quantisation is pure: every matrix has the one type, the embedding and the output projection too,
but for those whose rows its blocks do not divide. Vectors and convolutions are fp32.
"""

from __future__ import annotations

import argparse
import ctypes
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import MODEL_ARCH, GGMLQuantizationType, GGUFWriter
from safetensors import safe_open
from torch import Tensor

DTYPES = {
    torch.float32: GGMLQuantizationType.F32,
    torch.float16: GGMLQuantizationType.F16,
    torch.bfloat16: GGMLQuantizationType.BF16,
}
Config = dict[str, Any]


def convert(checkpoint: Path, out: Path) -> None:
    """Write the file, with one tensor in memory at a time."""
    config = json.loads((checkpoint / "config.json").read_text())
    family = config["model_type"]
    if family not in FAMILIES:
        raise SystemExit(f"{family} is not written as GGUF here; known are {', '.join(FAMILIES)}")
    arch, describe = FAMILIES[family]
    writer = GGUFWriter(out, gguf.MODEL_ARCH_NAMES[arch])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("no_vocab")
    describe(writer, config)
    names = gguf.get_tensor_name_map(arch, config["num_hidden_layers"])
    for name, tensor in converted(checkpoint, config):
        writer.add_tensor_info(
            gguf_name(names, name),
            tensor.shape,
            np.dtype(np.float32),
            tensor.nbytes,
            raw_dtype=DTYPES[tensor.dtype],
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _, tensor in converted(checkpoint, config):
        writer.write_tensor_data(tensor.contiguous().flatten().view(torch.uint8).numpy())
    writer.close()


def converted(checkpoint: Path, config: Config) -> Iterator[tuple[str, Tensor]]:
    """Every tensor by its name in the checkpoint, laid out as llama.cpp has it."""
    for shard in sorted(checkpoint.glob("*.safetensors")):
        with safe_open(shard, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (the file is no mapping)
                yield name, laid_out(name, file.get_tensor(name), config)


def laid_out(name: str, tensor: Tensor, config: Config) -> Tensor:
    """A tensor as llama.cpp has it: rotary pairs side by side, the SSM's decay itself, and not its
    logarithm, one dimension less for the convolution."""
    part = name.removesuffix(".weight").rsplit(".", 1)[-1]
    if part == "q_proj":
        return paired(tensor, config["num_attention_heads"])
    if part == "k_proj":
        return paired(tensor, config["num_key_value_heads"])
    if part == "conv1d":
        return tensor.squeeze(1).float()
    if part == "A_log":
        decay = -torch.exp(tensor.float())
        return decay if decay.dim() == 2 else decay[:, None]
    if config["model_type"] == "mamba2" and part == "D":
        return tensor.float()[:, None]
    if config["model_type"] == "mamba2" and name.endswith("mixer.norm.weight"):
        return tensor.float().reshape(config["n_groups"], -1)
    return tensor.float() if tensor.dim() == 1 else tensor


def paired(weight: Tensor, heads: int) -> Tensor:
    """Rows of a projection so that the two of a rotation, half a head apart, are neighbours."""
    rows, columns = weight.shape
    return (
        weight.reshape(heads, 2, rows // heads // 2, columns).transpose(1, 2).reshape(weight.shape)
    )


def gguf_name(names: gguf.TensorNameMap, name: str) -> str:
    """What GGUF calls a tensor."""
    asked = name.replace(".dt_bias", ".dt_proj.bias")
    found = names.get_name(asked, try_suffixes=(".weight", ".bias"))
    if found is None:
        raise ValueError(f"GGUF has no name for tensor {name!r}")
    return found


def describe_mistral(writer: GGUFWriter, config: Config) -> None:
    heads = config["num_attention_heads"]
    theta = config.get("rope_theta") or config["rope_parameters"]["rope_theta"]
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(theta)
    writer.add_rope_dimension_count(config.get("head_dim") or config["hidden_size"] // heads)


def describe_ssm(writer: GGUFWriter, config: Config) -> None:
    writer.add_context_length(1 << 20)  # has no meaning, but must be there
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_layer_norm_rms_eps(config["layer_norm_epsilon"])
    writer.add_ssm_conv_kernel(config["conv_kernel"])
    writer.add_ssm_inner_size(config["expand"] * config["hidden_size"])
    writer.add_ssm_state_size(config["state_size"])


def describe_mamba(writer: GGUFWriter, config: Config) -> None:
    describe_ssm(writer, config)
    writer.add_ssm_time_step_rank(config["time_step_rank"])


def describe_mamba2(writer: GGUFWriter, config: Config) -> None:
    describe_ssm(writer, config)
    writer.add_ssm_time_step_rank(config["num_heads"])
    writer.add_ssm_group_count(config["n_groups"])


FAMILIES: dict[str, tuple[MODEL_ARCH, Callable[[GGUFWriter, Config], None]]] = {
    "mistral": (MODEL_ARCH.LLAMA, describe_mistral),
    "mamba": (MODEL_ARCH.MAMBA, describe_mamba),
    "mamba2": (MODEL_ARCH.MAMBA2, describe_mamba2),
}


def quantize(source: Path, out: Path, kind: str) -> None:
    """Let llama.cpp quantise a file; ``kind`` is Q8_0, Q4_0 or Q4_K."""
    import llama_cpp

    kinds = {
        "Q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
        "Q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0,
        "Q4_K": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_S,
    }
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = kinds[kind]
    parameters.pure = True
    if llama_cpp.llama_model_quantize(bytes(source), bytes(out), ctypes.byref(parameters)):
        raise SystemExit(f"llama.cpp could not quantise {source} to {kind}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--type", choices=("Q8_0", "Q4_0", "Q4_K"), help="quantise a GGUF file")
    options = parser.parse_args()
    if options.type is None:
        convert(options.source, options.out)
    else:
        quantize(options.source, options.out, options.type)


if __name__ == "__main__":
    main()
