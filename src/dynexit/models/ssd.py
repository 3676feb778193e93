"""The scan of Mamba-2: state space duality, chunk by chunk (Dao and Gu 2024, section 6).

Per head with state S [P, N] and scalar decay: ``S = exp(dt A) S + dt x B'``, ``y = S C``. Within a
chunk that is a masked matrix product, like attention; between chunks only the state is passed on,
so time and memory grow linearly with the text.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def ssd_step(
    state: Tensor, x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor
) -> tuple[Tensor, Tensor]:
    """One token. ``state`` [B, H, P, N], ``x`` [B, H, P], ``dt`` [B, H], ``b``/``c`` [B, G, N].

    Returns the output [B, H, P] and the new state.
    """
    state = ssd_update(state, x, dt, a, b)
    per_group = state.shape[1] // c.shape[1]
    heads_c = c if per_group == 1 else c.repeat_interleave(per_group, dim=1)
    return torch.matmul(state, heads_c.unsqueeze(-1)).squeeze(-1), state


def ssd_update(state: Tensor, x: Tensor, dt: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """The state after one token; shapes as in ``ssd_step``."""
    per_group = state.shape[1] // b.shape[1]
    heads_b = b if per_group == 1 else b.repeat_interleave(per_group, dim=1)
    decay = torch.exp(dt * a)[..., None, None]
    return torch.addcmul(state * decay, (x * dt.unsqueeze(-1)).unsqueeze(-1), heads_b.unsqueeze(-2))


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
    length, groups = x.shape[1], b.shape[2]
    chunk = min(chunk, length)
    pad = -length % chunk
    if pad:
        x, b, c = (F.pad(t, (0, 0, 0, 0, 0, pad)) for t in (x, b, c))
        dt = F.pad(dt, (0, 0, 0, pad))
    # heads as [groups, heads per group], so B and C are never repeated
    x = (x * dt.unsqueeze(-1)).unflatten(2, (groups, -1)).unflatten(1, (-1, chunk))
    x = x.permute(0, 1, 3, 4, 2, 5)  # [B, chunks, G, R, Q, P]
    b, c = (t.unflatten(1, (-1, chunk)).transpose(2, 3) for t in (b, c))  # [B, chunks, G, Q, N]
    log_decay = (dt * a).unflatten(2, (groups, -1)).unflatten(1, (-1, chunk))
    total = log_decay.permute(0, 1, 3, 4, 2).cumsum(-1)  # [B, chunks, G, R, Q]

    inner = _within_chunks(x, total, b, c)
    to_end = torch.exp(total[..., -1:] - total).unsqueeze(-1)
    added = torch.matmul((x * to_end).transpose(-1, -2), b.unsqueeze(3))  # [B, chunks, G, R, P, N]
    starts, last = _between_chunks(added, torch.exp(total[..., -1]), state, groups)
    outer = torch.matmul(c.unsqueeze(3), starts.transpose(-1, -2)) * torch.exp(total).unsqueeze(-1)
    y = (inner + outer).permute(0, 1, 4, 2, 3, 5).flatten(1, 2).flatten(2, 3)
    return y[:, :length], last.flatten(1, 2)


def _within_chunks(x: Tensor, total: Tensor, b: Tensor, c: Tensor) -> Tensor:
    size = x.shape[-2]
    scores = torch.matmul(c, b.transpose(-1, -2)).unsqueeze(3)  # [B, chunks, G, 1, Q, Q]
    gaps = total.unsqueeze(-1) - total.unsqueeze(-2)
    future = torch.ones(size, size, dtype=torch.bool, device=x.device).triu(1)
    # masked before exp: a gap into the future is positive and would overflow
    return torch.matmul(scores * torch.exp(gaps.masked_fill(future, float("-inf"))), x)


def _between_chunks(
    added: Tensor, decay: Tensor, state: Tensor | None, groups: int
) -> tuple[Tensor, Tensor]:
    current = torch.zeros_like(added[:, 0]) if state is None else state.unflatten(1, (groups, -1))
    starts = []
    for index in range(added.shape[1]):
        starts.append(current)
        current = current * decay[:, index, ..., None, None] + added[:, index]
    return torch.stack(starts, dim=1), current
