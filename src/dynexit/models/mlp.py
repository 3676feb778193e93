"""Feed-forward blocks, gated and plain."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from dynexit.errors import UserError
from dynexit.models import kernels
from dynexit.models.config import MlpConfig
from dynexit.models.projection import Projection, together

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "relu2": lambda x: F.relu(x).square(),
}


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """The activation function of that name in a configuration, or ``UserError``."""
    if not isinstance(name, str) or name not in _ACTIVATIONS:
        known = ", ".join(sorted(_ACTIVATIONS))
        raise UserError(f"config.json: activation {name!r} is not supported; known are {known}")
    return _ACTIVATIONS[name]


class Mlp(nn.Module):
    """``down(act(gate(x)) * up(x))``, or ``down(act(up(x)))`` without a gate."""

    def __init__(self, config: MlpConfig, hidden: int) -> None:
        super().__init__()
        wide, bias = config.intermediate, config.bias
        self.gate_proj = Projection(hidden, wide, bias=bias) if config.gated else None
        self.up_proj = Projection(hidden, wide, bias=bias)
        self.down_proj = Projection(wide, hidden, bias=bias)
        self.activation = config.activation
        self._act = activation(config.activation)

    def forward(self, x: Tensor) -> Tensor:
        if self.gate_proj is None:
            return self.down_proj(self._activate(self.up_proj(x), None))  # type: ignore[no-any-return]
        gate, up = together(x, self.gate_proj, self.up_proj)
        return self.down_proj(self._activate(gate, up))  # type: ignore[no-any-return]

    def _activate(self, gate: Tensor, up: Tensor | None) -> Tensor:
        """``act(gate) * up``, or ``act(gate)``."""
        if self.activation in kernels.ACTIVATIONS and kernels.usable(gate, gate):
            return kernels.activate(gate, up, self.activation)
        return self._act(gate) if up is None else self._act(gate) * up
