"""The state of a fit after an epoch, in one safetensors file: weights, the best weights, AdamW's
moments, and as metadata how far it is. One file, so that weights and counters never disagree."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from dynexit.errors import UserError
from dynexit.files import atomic_path


@dataclass(frozen=True)
class Progress:
    """``epoch`` epochs are done; the best so far had validation quality ``quality`` and weights
    ``best``, and ``stale`` epochs have passed since."""

    best: Mapping[str, Tensor]
    epoch: int = 0
    quality: float = -1.0
    stale: int = 0

    def after(self, quality: float, weights: Mapping[str, Tensor]) -> Progress:
        """The progress after one more epoch, which ended with these."""
        if quality > self.quality:
            return Progress(weights, self.epoch + 1, quality, 0)
        return Progress(self.best, self.epoch + 1, self.quality, self.stale + 1)


def save_checkpoint(
    path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress
) -> None:
    """Write the state of a fit, whole or not at all."""
    tensors = {f"now.{name}": tensor for name, tensor in module.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in progress.best.items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in moments.items()}
    counters = {"epoch": progress.epoch, "quality": progress.quality, "stale": progress.stale}
    with atomic_path(path) as temporary:
        save_file(
            {name: tensor.detach().contiguous() for name, tensor in tensors.items()},
            temporary,
            metadata={"progress": json.dumps(counters)},
        )


def load_checkpoint(
    path: Path, module: nn.Module, optimizer: torch.optim.Optimizer
) -> Progress | None:
    """Bring ``module`` and ``optimizer`` to the state saved at ``path``; None if there is none."""
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            counters = json.loads((file.metadata() or {})["progress"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        module.load_state_dict(_under("now.", tensors))
        _load_moments(optimizer, _under("optimizer.", tensors))
        device = next(module.parameters()).device
        best = {name: tensor.to(device) for name, tensor in _under("best.", tensors).items()}
        return Progress(best, **counters)
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} is damaged ({reason}); remove it and run again") from None


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _load_moments(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, moment = name.split(".", 1)
        state.setdefault(int(index), {})[moment] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
