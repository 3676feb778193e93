"""The scans equal their recurrences, written down token by token as in the papers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dynexit.models.selective import (
    selective_scan,
    selective_state,
    selective_step,
    selective_update,
)
from dynexit.models.ssd import ssd_scan, ssd_state, ssd_step, ssd_update


@dataclass
class Inputs:
    """Inputs of a scan, fp64 so that only mistakes differ."""

    x: Tensor
    dt: Tensor
    a: Tensor
    b: Tensor
    c: Tensor
    state: Tensor


@st.composite
def ssd_inputs(draw: st.DrawFn) -> Inputs:
    rows, length = draw(st.integers(1, 3)), draw(st.integers(1, 23))
    groups, per_group = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    width, size = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    heads = groups * per_group
    torch.manual_seed(draw(st.integers(0, 2**31)))
    return Inputs(
        x=torch.randn(rows, length, heads, width).double(),
        dt=torch.rand(rows, length, heads).double() * 2,
        a=-torch.rand(heads).double() * 3,
        b=torch.randn(rows, length, groups, size).double(),
        c=torch.randn(rows, length, groups, size).double(),
        state=torch.randn(rows, heads, width, size).double(),
    )


def ssd_recurrence(i: Inputs) -> tuple[Tensor, Tensor]:
    per_group = i.x.shape[2] // i.b.shape[2]
    state, outputs = i.state, []
    b, c = i.b.repeat_interleave(per_group, 2), i.c.repeat_interleave(per_group, 2)
    for t in range(i.x.shape[1]):
        decay = torch.exp(i.dt[:, t] * i.a)[..., None, None]
        outer = torch.einsum("bhp,bhn->bhpn", i.x[:, t] * i.dt[:, t, :, None], b[:, t])
        state = decay * state + outer
        outputs.append(torch.einsum("bhpn,bhn->bhp", state, c[:, t]))
    return torch.stack(outputs, 1), state


@given(ssd_inputs(), st.integers(1, 30), st.booleans())
@settings(max_examples=60, deadline=None)
def test_ssd_scan_is_the_recurrence(i: Inputs, chunk: int, fresh: bool) -> None:
    if fresh:
        i.state = torch.zeros_like(i.state)
    y, last = ssd_scan(i.x, i.dt, i.a, i.b, i.c, chunk, None if fresh else i.state)
    expected, state = ssd_recurrence(i)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(last, state)


@given(ssd_inputs(), st.booleans())
@settings(max_examples=30, deadline=None)
def test_ssd_state_is_that_of_the_recurrence(i: Inputs, fresh: bool) -> None:
    if fresh:
        i.state = torch.zeros_like(i.state)
    last = ssd_state(i.x, i.dt, i.a, i.b, None if fresh else i.state)
    torch.testing.assert_close(last, ssd_recurrence(i)[1])


@given(ssd_inputs())
@settings(max_examples=30, deadline=None)
def test_ssd_steps_are_the_recurrence(i: Inputs) -> None:
    expected, last = ssd_recurrence(i)
    state, updated = i.state.clone(), i.state.clone()
    for t in range(i.x.shape[1]):
        y = ssd_step(state, i.x[:, t], i.dt[:, t], i.a, i.b[:, t], i.c[:, t])
        ssd_update(updated, i.x[:, t], i.dt[:, t], i.a, i.b[:, t])
        torch.testing.assert_close(y, expected[:, t])
    torch.testing.assert_close(state, last)
    torch.testing.assert_close(updated, last)


@given(ssd_inputs(), st.integers(0, 23), st.integers(1, 8))
@settings(max_examples=30, deadline=None)
def test_a_text_may_be_cut_anywhere(i: Inputs, cut: int, chunk: int) -> None:
    cut = min(cut, i.x.shape[1] - 1)
    whole, last = ssd_scan(i.x, i.dt, i.a, i.b, i.c, chunk, i.state)
    state, parts = i.state, []
    for part in (slice(0, cut), slice(cut, None)):
        if i.x[:, part].shape[1]:
            y, state = ssd_scan(
                i.x[:, part], i.dt[:, part], i.a, i.b[:, part], i.c[:, part], chunk, state
            )
            parts.append(y)
    torch.testing.assert_close(torch.cat(parts, 1), whole)
    torch.testing.assert_close(state, last)


def test_a_strong_decay_over_a_long_text_stays_finite() -> None:
    length = 512
    x, b = torch.randn(1, length, 2, 4), torch.randn(1, length, 1, 8)
    dt, a = torch.full((1, length, 2), 20.0), torch.tensor([-16.0, -0.001])
    y, last = ssd_scan(x, dt, a, b, b, 64)
    assert y.isfinite().all()
    assert last.isfinite().all()
    assert ssd_state(x, dt, a, b).isfinite().all()


@st.composite
def selective_inputs(draw: st.DrawFn) -> Inputs:
    rows, length = draw(st.integers(1, 3)), draw(st.sampled_from([1, 2, 7, 63, 64, 65, 130]))
    width, size = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    torch.manual_seed(draw(st.integers(0, 2**31)))
    return Inputs(
        x=torch.randn(rows, length, width).double(),
        dt=torch.rand(rows, length, width).double() * 2,
        a=-torch.rand(width, size).double() * 3,
        b=torch.randn(rows, length, size).double(),
        c=torch.randn(rows, length, size).double(),
        state=torch.randn(rows, width, size).double(),
    )


@given(selective_inputs())
@settings(max_examples=25, deadline=None)
def test_selective_scan_is_the_recurrence(i: Inputs) -> None:
    y, last = selective_scan(i.x, i.dt, i.a, i.b, i.c, i.state)
    only_state = selective_state(i.x, i.dt, i.a, i.b, i.state)
    state, stepped, updated = i.state, i.state.clone(), i.state.clone()
    for t in range(i.x.shape[1]):
        decay = torch.exp(torch.einsum("bd,dn->bdn", i.dt[:, t], i.a))
        state = decay * state + torch.einsum("bd,bn->bdn", i.dt[:, t] * i.x[:, t], i.b[:, t])
        expected = torch.einsum("bdn,bn->bd", state, i.c[:, t])
        one = selective_step(stepped, i.x[:, t], i.dt[:, t], i.a, i.b[:, t], i.c[:, t])
        selective_update(updated, i.x[:, t], i.dt[:, t], i.a, i.b[:, t])
        torch.testing.assert_close(y[:, t], expected)
        torch.testing.assert_close(one, expected)
    for result in (last, only_state, stepped, updated):
        torch.testing.assert_close(result, state)
