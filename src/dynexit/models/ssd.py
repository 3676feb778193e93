"""The scan of Mamba-2: state space duality, chunk by chunk (Dao and Gu 2024, section 6).

Per head with state S [P, N] and scalar decay: ``S = exp(dt A) S + dt x B'``, ``y = S C``. Within a
chunk that is a masked matrix product, like attention; between chunks only the state is passed on,
so time and memory grow linearly with the text.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dynexit.models import cuda_kernels


def ssd_step(state: Tensor, x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """One token. ``state`` [B, H, P, N], ``x`` [B, H, P], ``dt`` [B, H], ``b``/``c`` [B, G, N].

    Returns the output [B, H, P] and updates the state in place.
    """
    if cuda_kernels.steps(state):
        return cuda_kernels.ssd_step(state, x, dt, a, b, c)
    ssd_update(state, x, dt, a, b)
    rows, groups, size = b.shape
    # heads of a group share C: one matrix-vector product a group
    return torch.bmm(state.view(rows * groups, -1, size), c.reshape(-1, size, 1)).view(x.shape)


def ssd_update(state: Tensor, x: Tensor, dt: Tensor, a: Tensor, b: Tensor) -> None:
    """Update the state in place by one token; shapes as in ``ssd_step``."""
    if cuda_kernels.steps(state):
        cuda_kernels.ssd_update(state, x, dt, a, b)
        return
    rows, groups, size = b.shape
    state.mul_(torch.exp(dt * a)[..., None, None])
    source = (x * dt.unsqueeze(-1)).view(rows, groups, -1, 1)
    state.view(rows, groups, -1, size).addcmul_(source, b.unsqueeze(2))


def ssd_state(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, state: Tensor | None = None) -> Tensor:
    """The state after T tokens, without their outputs; shapes as in ``ssd_scan``."""
    rows, length, groups, size = b.shape
    total = (dt * a).cumsum(1)  # [B, T, H]
    weight = dt * torch.exp(total[:, -1:] - total)
    source = (x * weight.unsqueeze(-1)).view(rows, length, groups, -1).permute(0, 2, 3, 1)
    added = torch.matmul(source, b.transpose(1, 2)).view(rows, x.shape[2], -1, size)
    return added if state is None else added + state * torch.exp(total[:, -1])[..., None, None]


def ssd_scan(
    x: Tensor,
    dt: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    chunk: int,
    state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Scan T tokens. ``x`` [B, T, H, P], ``dt`` [B, T, H] >= 0, ``a`` [H] < 0, ``b``/``c``
    [B, T, G, N]; ``state`` [B, H, P, N] goes on from earlier tokens.

    A step with ``dt`` 0 leaves the state as it is, which is how padding passes. Returns the
    outputs [B, T, H, P] and the last state.
    """
    rows, length, groups, size = b.shape
    heads, width = x.shape[2], x.shape[3]
    chunk = min(chunk, length)
    pad = -length % chunk
    if pad:
        x, b, c = (F.pad(t, (0, 0, 0, 0, 0, pad)) for t in (x, b, c))
        dt = F.pad(dt, (0, 0, 0, pad))
    # heads as [groups, heads per group], so B and C are never repeated
    by_group = (rows, -1, chunk, groups, heads // groups)
    x = (x * dt.unsqueeze(-1)).reshape(*by_group, width).permute(0, 1, 3, 4, 2, 5)
    b, c = (t.reshape(rows, -1, chunk, groups, size).transpose(2, 3) for t in (b, c))
    # now x is [B, chunks, G, R, Q, P]; b and c are [B, chunks, G, Q, N]
    total = (dt * a).reshape(by_group).permute(0, 1, 3, 4, 2).cumsum(-1)  # [B, chunks, G, R, Q]

    inner = _within_chunks(x, total, b, c)
    to_end = torch.exp(total[..., -1:] - total).unsqueeze(-1)
    added = torch.matmul((x * to_end).transpose(-1, -2), b.unsqueeze(3))  # [B, chunks, G, R, P, N]
    start = torch.zeros_like(added[:, 0]) if state is None else state.view(added[:, 0].shape)
    starts, last = _between_chunks(added, torch.exp(total[..., -1]), start)
    outer = torch.matmul(c.unsqueeze(3), starts.transpose(-1, -2)) * torch.exp(total).unsqueeze(-1)
    y = (inner + outer).permute(0, 1, 4, 2, 3, 5).reshape(rows, -1, heads, width)
    return y[:, :length], last.flatten(1, 2)


def _within_chunks(x: Tensor, total: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Outputs [B, chunks, G, R, Q, P] of each chunk as if it began with an empty state."""
    chunk = x.shape[-2]
    scores = torch.matmul(c, b.transpose(-1, -2)).unsqueeze(3)  # [B, chunks, G, 1, Q, Q]
    gaps = total.unsqueeze(-1) - total.unsqueeze(-2)
    future = torch.ones(chunk, chunk, dtype=torch.bool, device=x.device).triu(1)
    # masked before exp: a gap into the future is positive and would overflow
    return torch.matmul(scores * torch.exp(gaps.masked_fill(future, float("-inf"))), x)


def _between_chunks(added: Tensor, decay: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """States [B, chunks, G, R, P, N] that chunks begin with, and the one after the last."""
    starts = []
    current = start
    for index in range(added.shape[1]):
        starts.append(current)
        current = current * decay[:, index, ..., None, None] + added[:, index]
    return torch.stack(starts, dim=1), current
