"""The kernels of mamba-ssm and causal-conv1d (Gu and Dao) in the shapes of our own functions.

Both packages are optional and for CUDA only: ask ``steps`` or ``scans`` before. Each function below
takes and gives what its namesake in ``ssd``, ``selective`` or ``conv`` does; what the packages want
is laid out like this (B rows, T tokens, H heads of P channels, G groups, N state, D channels, K
taps):

==========================  =================================================================
selective_state_update      state [B, H, P, N], x and dt [B, H, P], A [H, P, N], B and C
                            [B, G, N]; or without H and G. The state is updated in place
mamba_chunk_scan_combined   x [B, T, H, P], dt [B, T, H], A [H], B and C [B, T, G, N]; states
                            [B, H, P, N]
selective_scan_fn           u and dt [B, D, T], A [D, N], B and C [B, N, T]; last state [B, D, N]
causal_conv1d_update        x [B, D], state [B, D, K - 1] (in place), weight [D, K]
causal_conv1d_fn            x [B, D, T] with D innermost in memory, states [B, D, K - 1] so too
==========================  =================================================================
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dynexit.models.cache import RecurrentState
from dynexit.models.placement import Placement

_HALF = (torch.bfloat16, torch.float16)
_TAPS = (2, 3, 4)  # what causal-conv1d is compiled for
_STILL = 2.0**-40  # a time step so short that nothing decays: exp(dt A) rounds to 1


@cache
def _function(module: str, name: str) -> Any | None:
    """A function of an optional package, None where that isn't installed or doesn't load."""
    try:
        return getattr(importlib.import_module(module), name, None)
    except (ImportError, OSError, RuntimeError):  # compiled for another PyTorch, say
        return None


def _state_update() -> Any | None:
    return _function("mamba_ssm.ops.triton.selective_state_update", "selective_state_update")


def _chunk_scan() -> Any | None:
    return _function("mamba_ssm.ops.triton.ssd_combined", "mamba_chunk_scan_combined")


def _selective_scan() -> Any | None:
    return _function("mamba_ssm.ops.selective_scan_interface", "selective_scan_fn")


def steps(state: Tensor) -> bool:
    """Whether ``ssd_step``, ``ssd_update``, ``selective_step`` and ``selective_update`` here can be
    used on this state. They compute in fp32, as ours do."""
    return _here(state) and _state_update() is not None


def scans_ssd(mixed: Tensor) -> bool:
    """Whether ``ssd_scan`` here may be used for inputs that came as ``mixed``, in the model's own
    type. Its matrix products are in TF32, so a model in fp32 keeps ours."""
    return mixed.dtype in _HALF and _here(mixed) and _chunk_scan() is not None


def scans_selective(x: Tensor) -> bool:
    """Whether ``selective_scan`` and ``selective_state`` here can be used. They compute in fp32."""
    return x.dtype == torch.float32 and _here(x) and _selective_scan() is not None


def convolves(x: Tensor, weight: Tensor, state: RecurrentState | None, place: Placement) -> bool:
    """Whether ``causal_conv`` here can be used: no padding, channels in eights, 2 to 4 taps, one
    type."""
    types = {x.dtype, weight.dtype} | (set() if state is None else {state.conv.dtype})
    fits = not place.padded and x.shape[-1] % 8 == 0 and weight.shape[-1] in _TAPS
    installed = _function("causal_conv1d", "causal_conv1d_fn") is not None
    return fits and len(types) == 1 and _here(x) and installed


def _here(x: Tensor) -> bool:
    """On a GPU, and nothing is differentiated: not all of the kernels can be."""
    return x.is_cuda and not (torch.is_grad_enabled() and x.requires_grad)


def ssd_step(state: Tensor, x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """See ``ssd.ssd_step``."""
    update = _state_update()
    assert update is not None
    _, heads, width, size = state.shape
    # with strides of 0 the kernel reads one dt and one A a head. Some of its releases fail without
    # a bias and a skip, so they are given, as zeros
    none = x.new_zeros(heads, 1).expand(heads, width)
    rate, step = a[:, None, None].expand(heads, width, size), dt[..., None].expand(x.shape)
    out: Tensor = update(state, x, step, rate, b, c, D=none, dt_bias=none, dt_softplus=False)
    return out


def ssd_update(state: Tensor, x: Tensor, dt: Tensor, a: Tensor, b: Tensor) -> None:
    """See ``ssd.ssd_update``; the kernel has no form without an output."""
    ssd_step(state, x, dt, a, b, b)


def ssd_scan(
    x: Tensor,
    dt: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    chunk: int,
    state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """See ``ssd.ssd_scan``. The kernel's chunk is a power of two; results don't depend on it."""
    scan = _chunk_scan()
    assert scan is not None
    size = max(32, 1 << (chunk - 1).bit_length())
    y, last = scan(x, dt, a, b, c, size, initial_states=state, return_final_states=True)
    return y, last.to(dt.dtype)


def selective_step(state: Tensor, x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """See ``selective.selective_step``."""
    update = _state_update()
    assert update is not None
    none = x.new_zeros(x.shape[-1])
    out: Tensor = update(state, x, dt, a, b, c, D=none, dt_bias=none, dt_softplus=False)
    return out


def selective_update(state: Tensor, x: Tensor, dt: Tensor, a: Tensor, b: Tensor) -> None:
    """See ``selective.selective_update``."""
    selective_step(state, x, dt, a, b, b)


def selective_scan(
    x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """See ``selective.selective_scan``."""
    scan = _selective_scan()
    assert scan is not None
    x, dt, b, c = after(state, x, dt, b, c)
    u, step, into, out = (t.transpose(1, 2).contiguous() for t in (x, dt, b, c))
    y, last = scan(u, step, a, into, out, return_last_state=True)
    return y.transpose(1, 2)[:, state.shape[-1] :], last


def selective_state(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, state: Tensor) -> Tensor:
    """See ``selective.selective_state``."""
    return selective_scan(x, dt, a, b, b, state)[1]


def after(
    state: Tensor, x: Tensor, dt: Tensor, b: Tensor, c: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Inputs of a selective scan from an empty state that goes on from ``state`` [B, D, N].

    The kernel always begins empty. So N tokens come first, of which number n writes
    ``state[..., n]`` into place n of the state and, taking next to no time, lets nothing decay.
    Scaling by a power of two and back is exact.
    """
    rows, _, size = state.shape
    earlier = state.transpose(1, 2)  # [B, N tokens, D]
    into = torch.eye(size, dtype=b.dtype, device=b.device).expand(rows, size, size)
    return (
        torch.cat((earlier / _STILL, x), dim=1),
        torch.cat((torch.full_like(earlier, _STILL), dt), dim=1),
        torch.cat((into, b), dim=1),
        F.pad(c, (0, 0, size, 0)),
    )


def causal_conv(
    x: Tensor, weight: Tensor, bias: Tensor | None, state: RecurrentState | None, place: Placement
) -> Tensor:
    """See ``conv.causal_conv``; only where ``convolves``."""
    taps = weight.squeeze(1)
    if state is None:
        return _convolved(x, taps, bias, None)[0]
    # rows are copied and put back, as the kernel's own index of rows is for the step alone
    conv = state.conv if place.rows is None else state.conv[place.rows]
    if x.shape[1] == 1:
        update = _function("causal_conv1d", "causal_conv1d_update")
        assert update is not None
        out = update(x[:, 0], conv.transpose(1, 2), taps, bias).unsqueeze(1)
    else:
        out, conv = _convolved(x, taps, bias, conv)
    if place.rows is not None:
        state.conv[place.rows] = conv
    elif conv is not state.conv:
        state.conv.copy_(conv)
    return out  # type: ignore[no-any-return]


def _convolved(
    x: Tensor, taps: Tensor, bias: Tensor | None, conv: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Outputs [B, T, D], and the last inputs [B, K - 1, D]."""
    convolve = _function("causal_conv1d", "causal_conv1d_fn")
    assert convolve is not None
    if x.stride(0) % 8 or x.stride(1) % 8 or x.stride(2) != 1:
        x = x.contiguous()
    before = x.new_zeros(len(x), taps.shape[1] - 1, x.shape[2]) if conv is None else conv
    out, last = convolve(
        x.transpose(1, 2),
        taps,
        bias,
        initial_states=before.transpose(1, 2),
        return_final_states=True,
    )
    return out.transpose(1, 2), last.transpose(1, 2)
