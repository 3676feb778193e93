"""Low-rank adapters (LoRA, Hu et al. 2021): ``W x + scale B A x``, of which A and B are trained.

``B`` begins as zeros, so that the model begins as it was; ``merged`` is the matrix that does the
same in one. The frozen matrix stays as it is stored, and no copy is made of it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynexit.models.backbone import Backbone
from dynexit.models.kernels import Matrix
from dynexit.models.projection import Projection

SCALE = 2.0  # alpha / rank, as in most recipes


class LoraProjection(Projection):
    """A projection with an adapter beside it; ``lora_a`` [rank, in] and ``lora_b`` [out, rank] are
    in fp32, as small steps would be lost in less."""

    def __init__(self, base: Projection, rank: int) -> None:
        super().__init__(base.in_features, base.out_features, base.bias is not None, device="meta")
        self.weight, self.bias = base.weight, base.bias
        a = torch.empty(rank, self.in_features, device=base.weight.device)
        self.lora_a = nn.Parameter(nn.init.kaiming_uniform_(a, a=5**0.5))
        self.lora_b = nn.Parameter(base.weight.new_zeros(self.out_features, rank).float())

    def forward(self, x: Tensor) -> Tensor:
        added = F.linear(F.linear(x.to(self.lora_a.dtype), self.lora_a), self.lora_b)
        return F.linear(x, self.weight, self.bias) + SCALE * added.to(x.dtype)

    def matrix(self, x: Tensor) -> Matrix | None:
        """None: the kernels know no adapters."""
        return None

    @torch.no_grad()
    def merged(self) -> Tensor:
        """The matrix [out, in] with the adapter in it, in the type of the frozen one."""
        whole = self.weight.float() + SCALE * (self.lora_b @ self.lora_a)
        return whole.to(self.weight.dtype)


def add_lora(backbone: Backbone, rank: int, seed: int) -> list[nn.Parameter]:
    """Put an adapter beside every matrix of every layer; gives what is to be trained."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for block in backbone.blocks():
            for parent in list(block.modules()):
                for name, child in parent.named_children():
                    if isinstance(child, Projection):
                        setattr(parent, name, LoraProjection(child, rank))
    adapters = [m for m in backbone.modules() if isinstance(m, LoraProjection)]
    return [parameter for one in adapters for parameter in (one.lora_a, one.lora_b)]
