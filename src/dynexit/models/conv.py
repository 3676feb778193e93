"""Causal depthwise convolution over the sequence, with the last inputs as its state."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dynexit.models import cuda_kernels
from dynexit.models.cache import RecurrentState
from dynexit.models.placement import Placement


class ConvWeights(nn.Module):
    """Depthwise taps [channels, 1, kernel] under the names a checkpoint uses."""

    def __init__(self, channels: int, kernel: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels, 1, kernel) / kernel**0.5)
        self.bias = nn.Parameter(torch.zeros(channels)) if bias else None


def causal_conv(
    x: Tensor, weight: Tensor, bias: Tensor | None, state: RecurrentState | None, place: Placement
) -> Tensor:
    """Convolve ``x`` [B, T, C] with ``weight`` [C, 1, K], going on from ``state`` and updating it.

    Padding columns leave the state as if they were not there.
    """
    if cuda_kernels.convolves(x, weight, state, place):
        return cuda_kernels.causal_conv(x, weight, bias, state, place)
    taps = weight.squeeze(1).t()  # [K, C]
    kernel, width = taps.shape[0], x.shape[1]
    history = _history(x, kernel, state, place)
    extended = torch.cat((history.to(x.dtype), x), dim=1)
    if state is not None:
        _remember(extended, kernel, state, place)
    if width == 1:
        out = (extended * taps).sum(1, keepdim=True)
        return out if bias is None else out + bias
    taps = taps.contiguous()  # channels side by side, as in x
    out = extended[:, :width] * taps[0]
    for tap in range(1, kernel):
        out = torch.addcmul(out, extended[:, tap : tap + width], taps[tap])
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
