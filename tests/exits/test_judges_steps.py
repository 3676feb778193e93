"""A step of a recurrent judge by our own kernels: the numbers of PyTorch's operations."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import Tensor

from dynexit.exits.judges.mamba import BlockSteps, MambaClassifier, block_shape
from dynexit.models.kernels import Layer

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no compiler here")

HIDDEN, EXIT_STEPS = 40, 7


def steps_of(seed: int, shifted: bool) -> BlockSteps:
    torch.manual_seed(seed)
    config, _ = block_shape(heads=2, head_dim=32, state=16, conv_kernel=4)
    head = MambaClassifier(HIDDEN, config)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        steps = BlockSteps(head)
        return steps.shifted(torch.randn(HIDDEN)) if shifted else steps


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("rows", [None, [2], [3, 0], [0, 1, 2, 3]])
def test_equal_to_pytorchs(
    dtype: torch.dtype, shifted: bool, rows: list[int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = steps_of(len(rows or []), shifted)
    states = steps.new_state(4)
    expected = tuple(state.clone() for state in states)
    at = None if rows is None else torch.tensor(rows)
    calls: list[int] = []
    monkeypatch.setattr(Layer, "run", _counted(Layer.run, calls))
    for _ in range(EXIT_STEPS):
        hidden = torch.randn(4 if rows is None else len(rows), HIDDEN, dtype=dtype)
        logits = steps(hidden, *states, at)
        index = slice(None) if at is None else at
        conv, ssm = (state[index] for state in expected)
        torch.testing.assert_close(logits, steps._step(hidden, conv, ssm), atol=2e-5, rtol=1e-4)
        expected[0][index], expected[1][index] = conv, ssm
    for state, same in zip(states, expected, strict=True):
        torch.testing.assert_close(state, same, atol=2e-5, rtol=1e-4)
    assert len(calls) == EXIT_STEPS


@torch.inference_mode()
def test_many_rows_go_other_ways() -> None:
    steps = steps_of(0, shifted=False)
    states, hidden = steps.new_state(12), torch.randn(12, HIDDEN)
    alone = [steps(one[None], *steps.new_state(1), None) for one in hidden]
    torch.testing.assert_close(steps(hidden, *states, None), torch.cat(alone))


def _counted(run: object, calls: list[int]) -> object:
    def counting(self: Layer, stream: Tensor, *rest: object) -> None:
        calls.append(len(stream))
        run(self, stream, *rest)  # type: ignore[operator]

    return counting
