"""Muon, with all matrices of one shape updated together."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

_QUINTIC = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_SMALLEST_NORM = 1e-7
_LIKE_ADAMW = 0.2


class BatchedMuon(torch.optim.Optimizer):
    """The update of ``torch.optim.Muon`` (``adjust_lr_fn="match_rms_adamw"``, Nesterov momentum)
    for many small matrices: those of one shape are orthogonalised in one batch, which on a GPU
    turns thousands of kernels a step into dozens.

    Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024); the
    rate's factor of 0.2 sqrt(longer side) from Liu et al., arXiv 2502.16982.
    """

    def __init__(
        self, params: Iterable[Tensor], lr: float, weight_decay: float, momentum: float = 0.95
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient."""
        for group in self.param_groups:
            shapes: defaultdict[torch.Size, list[Tensor]] = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    shapes[matrix.shape].append(matrix)
            for matrices in shapes.values():
                self._update(matrices, group)

    def _update(self, matrices: list[Tensor], group: dict[str, Any]) -> None:
        momentum, rate = group["momentum"], group["lr"]
        buffers = [self._buffer(matrix) for matrix in matrices]
        gradients = [matrix.grad for matrix in matrices if matrix.grad is not None]
        torch._foreach_lerp_(buffers, gradients, 1 - momentum)
        ahead = torch.stack(torch._foreach_lerp(gradients, buffers, momentum))
        turned = orthogonal(ahead).to(ahead.dtype).unbind()
        torch._foreach_mul_(matrices, 1 - rate * group["weight_decay"])
        longer = max(matrices[0].shape)
        torch._foreach_add_(matrices, turned, alpha=-rate * _LIKE_ADAMW * math.sqrt(longer))

    def _buffer(self, matrix: Tensor) -> Tensor:
        state = self.state[matrix]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(matrix)
        buffer: Tensor = state["momentum_buffer"]
        return buffer


def orthogonal(matrices: Tensor) -> Tensor:
    """About the nearest (semi-)orthogonal matrix of each [n, rows, columns], in bf16, by five
    Newton-Schulz steps with Muon's quintic: singular values come out between about 0.7 and 1.2."""
    a, b, c = _QUINTIC
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.bfloat16()
    x = x.mT if tall else x
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=_SMALLEST_NORM)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
