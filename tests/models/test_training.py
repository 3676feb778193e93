"""Without a cache the backbone is differentiable, as the recipe and fine-tuning need it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from dynexit.models import Backbone, load_backbone
from models.shapes import MIXERS, small_backbone
from models.zoo import Checkpoint, random_ids

KINDS = pytest.mark.parametrize("kind", MIXERS)


def loss_of(backbone: Backbone, lengths: list[int] | None = None) -> torch.Tensor:
    ids = random_ids(2, 12) % backbone.config.vocab
    logits = backbone(ids, lengths)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(logits.flatten(0, 1), ids.roll(-1, 1).flatten())


@KINDS
def test_every_parameter_gets_the_gradient_of_a_finite_difference(kind: str) -> None:
    backbone = small_backbone(kind).double().requires_grad_(True)
    loss_of(backbone).backward()
    generator = torch.Generator().manual_seed(0)
    for name, parameter in backbone.named_parameters():
        assert parameter.grad is not None
        direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        direction /= direction.norm()
        with torch.no_grad():
            losses = []
            for step in (1e-5, -2e-5):
                parameter += step * direction
                losses.append(loss_of(backbone).item())
            parameter += 1e-5 * direction
        slope, expected = (losses[0] - losses[1]) / 2e-5, (parameter.grad * direction).sum().item()
        assert slope == pytest.approx(expected, rel=1e-3, abs=1e-7), name


def test_gradients_are_those_of_transformers(checkpoint: Checkpoint) -> None:
    ids = random_ids(2, 12)
    backbone = load_backbone(checkpoint.directory).requires_grad_(True)
    gradients = []
    for logits, weight in (
        (backbone(ids), backbone.embedding.weight),
        (checkpoint.oracle(ids).logits, checkpoint.oracle.get_input_embeddings().weight),
    ):
        loss = F.cross_entropy(logits.flatten(0, 1), ids.roll(-1, 1).flatten())
        gradients += torch.autograd.grad(loss, weight)
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-5, rtol=1e-4)


@KINDS
def test_autocast_trains_close_to_fp32(kind: str) -> None:
    backbone = small_backbone(kind).requires_grad_(True)
    parameters = list(backbone.parameters())
    exact = torch.autograd.grad(loss_of(backbone), parameters)
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_of(backbone)
    rounded = torch.autograd.grad(loss, parameters)
    for x, y in zip(exact, rounded, strict=True):
        assert x.dtype == y.dtype == torch.float32
        assert (x - y).norm() < 0.1 * x.norm() + 1e-4


@KINDS
def test_padding_gets_no_gradient_and_gives_none(kind: str) -> None:
    backbone = small_backbone(kind).requires_grad_(True)
    ids = random_ids(1, 12) % backbone.config.vocab
    gradients = []
    for tail in (ids, torch.cat((ids[:, :7], ids[:, 7:].flip(1)), 1)):
        logits = backbone(torch.cat((ids, tail)), [12, 7])[1, :7]
        gradients.append(torch.autograd.grad(logits.square().sum(), backbone.norm.weight)[0])
    torch.testing.assert_close(gradients[0], gradients[1], atol=0.0, rtol=0.0)


def test_width_beyond_the_longest_row_is_padding() -> None:
    backbone = small_backbone("mamba2")
    ids = random_ids(2, 12) % backbone.config.vocab
    with torch.no_grad():
        logits = backbone(ids, [5, 7])
        assert logits.shape == (2, 12, backbone.config.vocab)
        torch.testing.assert_close(logits[1:, :7], backbone(ids[1:, :7]))
        torch.testing.assert_close(logits[:1, :5], backbone(ids[:1, :5]))
