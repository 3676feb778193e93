"""The scan of Mamba (Gu and Dao 2023, section 3): a diagonal state of its own for every channel.

Per channel with state h [N]: ``h = exp(dt A) h + dt B x``, ``y = C h``, where dt, B and C depend on
the token. The factors [B, T, D, N] are held for a chunk of tokens at a time.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dynexit.models import cuda_kernels

_CHUNK = 64


def selective_step(state: Tensor, x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """One token. ``state`` [B, D, N], ``x``/``dt`` [B, D], ``a`` [D, N] < 0, ``b``/``c`` [B, N].

    Returns the output [B, D] and updates the state in place.
    """
    if cuda_kernels.steps(state):
        return cuda_kernels.selective_step(state, x, dt, a, b, c)
    selective_update(state, x, dt, a, b)
    return torch.bmm(state, c.unsqueeze(-1)).squeeze(-1)


def selective_update(state: Tensor, x: Tensor, dt: Tensor, a: Tensor, b: Tensor) -> None:
    """Update the state in place by one token; shapes as in ``selective_step``."""
    if cuda_kernels.steps(state):
        cuda_kernels.selective_update(state, x, dt, a, b)
        return
    state.mul_(torch.exp(dt.unsqueeze(-1) * a))
    state.addcmul_((dt * x).unsqueeze(-1), b.unsqueeze(1))


def selective_scan(
    x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Scan T tokens. ``x``/``dt`` [B, T, D], ``dt`` >= 0, ``a`` [D, N] < 0, ``b``/``c`` [B, T, N],
    going on from ``state`` [B, D, N].

    A step with ``dt`` 0 leaves the state as it is, which is how padding passes. Returns the outputs
    [B, T, D] and the last state.
    """
    if cuda_kernels.scans_selective(x):
        return cuda_kernels.selective_scan(x, dt, a, b, c, state)
    outputs = []
    for begin in range(0, x.shape[1], _CHUNK):
        part = slice(begin, begin + _CHUNK)
        decay = torch.exp(dt[:, part, :, None] * a)
        added = (dt[:, part] * x[:, part])[..., None] * b[:, part, None, :]
        states = []
        for t in range(decay.shape[1]):
            state = torch.addcmul(added[:, t], decay[:, t], state)
            states.append(state)
        seen = torch.stack(states, dim=1)
        outputs.append(torch.matmul(seen, c[:, part, :, None]).squeeze(-1))
    return torch.cat(outputs, dim=1), state


def selective_state(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, state: Tensor) -> Tensor:
    """The state after T tokens, without their outputs; shapes as in ``selective_scan``."""
    if cuda_kernels.scans_selective(x):
        return cuda_kernels.selective_state(x, dt, a, b, state)
    for begin in range(0, x.shape[1], _CHUNK):
        part = slice(begin, begin + _CHUNK)
        total = dt[:, part].cumsum(1)
        to_end = torch.exp((total[:, -1:] - total).unsqueeze(-1) * a)
        source = (dt[:, part] * x[:, part]).unsqueeze(-1) * b[:, part].unsqueeze(2)
        state = state * torch.exp(total[:, -1].unsqueeze(-1) * a) + (to_end * source).sum(1)
    return state
