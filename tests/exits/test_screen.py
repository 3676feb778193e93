"""A screen's logits: exact for its candidates, close to the readout the higher its rank."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dynexit.errors import UserError
from dynexit.exits.screen import Screen, default_rank
from dynexit.exits.translator import Translators
from dynexit.models.backbone import Backbone
from dynexit.models.config import BackboneConfig, LayerConfig, MlpConfig
from dynexit.models.quantization import QuantizationConfig
from dynexit.models.quantized import quantized_like

HIDDEN, VOCAB = 32, 90


def backbone(tied: bool = False, divisor: float = 1.0) -> Backbone:
    torch.manual_seed(0)
    config = BackboneConfig(
        "test",
        VOCAB,
        HIDDEN,
        (LayerConfig(None, MlpConfig(8)),),
        1e-5,
        tied=tied,
        logits_divisor=divisor,
    )
    made = Backbone(config).eval().requires_grad_(False)
    made.norm.weight.uniform_(0.5, 2.0)
    weight = made.embedding.weight if made.head is None else made.head.weight
    # rows that a few directions tell apart, as those of trained models are
    weight.copy_(torch.randn(VOCAB, HIDDEN) @ torch.diag(0.8 ** torch.arange(HIDDEN)))
    return made


@settings(max_examples=20, deadline=None)
@given(
    rank=st.integers(1, HIDDEN),
    candidates=st.integers(1, 100),
    tied=st.booleans(),
    divisor=st.sampled_from([1.0, 8.0]),
    rows=st.integers(1, 3),
)
def test_candidates_are_exact_and_the_best_of_the_rough(
    rank: int, candidates: int, tied: bool, divisor: float, rows: int
) -> None:
    model = backbone(tied, divisor)
    hidden = torch.randn(rows, HIDDEN)
    with torch.inference_mode():
        exact = model.readout(hidden)
        plain = Screen(model, rank, 1).logits(0, hidden)
        screen = Screen(model, rank, candidates)
        rough = screen.logits(0, hidden)
    assert rough.shape == (rows, VOCAB)
    assert rough.dtype == torch.float32
    close = torch.isclose(rough, exact, rtol=1e-4, atol=1e-4)
    assert (close.sum(-1) >= min(candidates, VOCAB)).all()
    # the others are as they are without candidates
    same = torch.isclose(rough, plain, rtol=1e-4, atol=1e-4)
    assert (same | close).all()


def test_the_full_rank_is_the_readout() -> None:
    model, hidden = backbone(), torch.randn(2, HIDDEN)
    with torch.inference_mode():
        rough = Screen(model, HIDDEN, 1).logits(0, hidden)
        torch.testing.assert_close(rough, model.readout(hidden), rtol=1e-3, atol=1e-3)


def test_directions_are_close_to_the_singular_vectors() -> None:
    model, hidden = backbone(), torch.randn(200, HIDDEN)
    weight, gain = model.head.weight, model.norm.weight  # type: ignore[union-attr]
    u, s, v = torch.linalg.svd(weight * gain, full_matrices=False)
    x = hidden / hidden.square().mean(-1, keepdim=True).sqrt()
    for rank in (4, 12):
        best = x @ v[:rank].t() @ (u[:, :rank] * s[:rank]).t()
        screen = Screen(model, rank, 1)
        with torch.inference_mode():
            exact, rough = model.readout(hidden), screen.logits(0, hidden)
        # two passes come close, and cannot be better but by the one candidate
        assert 0.9 < (rough - exact).norm() / (best - exact).norm() < 1.25


def test_channels_that_the_norm_shuts_off_are_no_trouble() -> None:
    model = backbone()
    model.norm.weight[3] = 0.0
    with torch.inference_mode():
        hidden = torch.randn(2, HIDDEN)
        rough = Screen(model, HIDDEN - 1, 1).logits(0, hidden)
        torch.testing.assert_close(rough, model.readout(hidden), rtol=1e-3, atol=1e-3)


def test_translators_come_before() -> None:
    model, hidden = backbone(), torch.randn(1, HIDDEN)
    translators = Translators((1, 2), HIDDEN).requires_grad_(False)
    translators.maps[1].weight.normal_()  # type: ignore[operator]
    screen = Screen(model, 8, 20, translators)
    with torch.inference_mode():
        expected = Screen(model, 8, 20).logits(0, translators.apply(1, hidden))
        torch.testing.assert_close(screen.logits(1, hidden), expected)
    assert screen.flops() == 2 * (8 * HIDDEN + 8 * VOCAB + 20 * HIDDEN + HIDDEN * HIDDEN)


def test_cost_by_hand() -> None:
    screen = Screen(backbone().bfloat16(), 8, 20)
    assert screen.flops() == 2 * (8 * HIDDEN + 8 * VOCAB + 20 * HIDDEN)
    assert screen.weight_bytes() == screen.flops()
    assert default_rank(4096) == 256


def test_mistakes() -> None:
    model = backbone()
    for rank in (0, HIDDEN + 1):
        with pytest.raises(UserError, match=f"rank {rank} is outside 1 to {HIDDEN}"):
            Screen(model, rank)
    model.head = quantized_like(model.head, QuantizationConfig(8, 128))  # type: ignore
    with pytest.raises(UserError, match="not quantised"):
        Screen(model, 4)
