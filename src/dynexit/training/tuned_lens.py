"""Translators that the tuned-lens library fitted, in place of our own.

Its translator i is ``h + W h + b`` as ours is, and reads the state after i layers (0: the
embedding), so that exit layer l has number l. Its ``params.pt`` is a pickle, which is not read
here; a safetensors file with the same tensors is: ``l.weight`` [hidden, hidden] and ``l.bias``
[hidden] for every exit layer l, and any others.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from dynexit.errors import UserError
from dynexit.exits.translator import Translators


def read_tuned_lens(path: Path, layers: Sequence[int], hidden: int) -> Translators:
    """The translators of ``layers``, in fp32; ``UserError`` where the file does not have them."""
    translators = Translators(layers, hidden)
    try:
        with safe_open(path, "pt") as file:
            for layer, own in zip(layers, translators.maps, strict=True):
                for name, parameter in own.named_parameters():
                    tensor = file.get_tensor(f"{layer}.{name}")
                    if tensor.shape != parameter.shape:
                        raise UserError(
                            f"{path}: tensor '{layer}.{name}' has shape {list(tensor.shape)}, this "
                            f"model needs {list(parameter.shape)}; give a lens of this model"
                        )
                    parameter.data.copy_(tensor.to(torch.float32))
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"--tuned-lens {path} is no file; give one with its tensors") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} has no translators for these exits ({error})") from None
    return translators.requires_grad_(False)
