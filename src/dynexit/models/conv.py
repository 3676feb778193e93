"""Causal depthwise convolution over the sequence, with the last inputs as its state."""

from __future__ import annotations

import torch
from torch import Tensor

from dynexit.models.cache import RecurrentState
from dynexit.models.placement import Placement


def causal_conv(
    x: Tensor, weight: Tensor, bias: Tensor | None, state: RecurrentState | None, place: Placement
) -> Tensor:
    """Convolve ``x`` [B, T, C] with ``weight`` [C, K], going on from ``state`` and updating it.

    Padding columns leave the state as if they were not there.
    """
    kernel = weight.shape[-1]
    history = _history(x, kernel, state, place)
    extended = torch.cat((history.to(x.dtype), x), dim=1)
    if state is not None:
        _remember(extended, kernel, state, place)
    width = x.shape[1]
    out = extended[:, :width] * weight[:, 0]
    for tap in range(1, kernel):
        out = torch.addcmul(out, extended[:, tap : tap + width], weight[:, tap])
    return out if bias is None else out + bias


def _history(x: Tensor, kernel: int, state: RecurrentState | None, place: Placement) -> Tensor:
    if state is None:
        return x.new_zeros(x.shape[0], kernel - 1, x.shape[2])
    return state.conv if place.rows is None else state.conv[place.rows]


def _remember(extended: Tensor, kernel: int, state: RecurrentState, place: Placement) -> None:
    if not place.padded:
        last = extended[:, place.width :]
    else:
        columns = place.ends[:, None] + torch.arange(kernel - 1, device=extended.device)
        last = extended.gather(1, columns[..., None].expand(-1, -1, extended.shape[2]))
    if place.rows is None:
        state.conv.copy_(last)
    else:
        state.conv[place.rows] = last.to(state.conv.dtype)
