"""Every n-th exit decides, and does so as it would among the others."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dynexit.errors import UserError
from dynexit.exits.judges import TRAINED_JUDGES, build_judge
from dynexit.exits.policy import ExitPolicy
from dynexit.exits.skipped import skipped_state
from dynexit.exits.spacing import decide_every
from dynexit.exits.translator import Translators
from dynexit.inference.decoder import Decoder
from inference.test_decoder import HIDDEN, backbone

LAYERS = (1, 2, 3, 4, 5)
ALONE = [kind for kind in TRAINED_JUDGES if kind != "depth"]  # which compares exits


def policy(kind: str, thresholds: tuple[float, ...]) -> ExitPolicy:
    torch.manual_seed(3)
    judge = build_judge(kind, LAYERS, HIDDEN)
    return ExitPolicy(judge, thresholds, skipped_state("recompute"))


@pytest.mark.parametrize("kind", [*ALONE, "margin", "top-probability"])
@pytest.mark.parametrize("n", [2, 3])
def test_same_as_never_leaving_between(kind: str, n: int) -> None:
    """Where a judge looks at one exit alone, exits between change nothing if none leaves there."""
    model = backbone("hybrid", torch.float32)
    base = 0.4 if kind in TRAINED_JUDGES else 0.001
    thresholds = tuple(base * (1.0 + i / 20) for i in range(len(LAYERS)))
    never = tuple(t if i % n == 0 else 1.5 for i, t in enumerate(thresholds))
    all_checked = Decoder(model, 2, 32, policy(kind, never))
    spaced = decide_every(policy(kind, thresholds), n, model)
    assert spaced.layers == LAYERS[::n]
    assert spaced.thresholds == thresholds[::n]
    some_checked = Decoder(model, 2, 32, spaced)
    for decoder in (all_checked, some_checked):
        decoder.prefill([[1, 2, 3], [4, 5]])
    left = set()
    for token in range(6, 14):
        one, other = all_checked.step([token, token + 9]), some_checked.step([token, token + 9])
        assert one.exit_layers == other.exit_layers
        torch.testing.assert_close(one.logits, other.logits)
        left.update(other.exit_layers)
    assert left & set(spaced.layers)


def test_translators_go_along() -> None:
    translators = Translators(LAYERS, HIDDEN)
    for number, translator in enumerate(translators.maps):
        torch.nn.init.constant_(translator.bias, float(number))  # type: ignore[arg-type]
    whole = replace(policy("linear", (0.5,) * 5), translators=translators)
    fewer = decide_every(whole, 2, backbone("attention")).translators
    assert fewer is not None
    assert fewer.layers == (1, 3, 5)
    assert fewer.apply(2, torch.zeros(HIDDEN)).tolist() == [4.0] * HIDDEN


@pytest.mark.parametrize("n", [0, -1])
def test_a_number_without_meaning_is_told(n: int) -> None:
    with pytest.raises(UserError, match=f"decide every {n} exits"):
        decide_every(policy("margin", (0.5,) * 5), n, backbone("attention"))


def test_one_is_the_policy_itself() -> None:
    given = policy("margin", (0.5,) * 5)
    assert decide_every(given, 1, backbone("attention")) is given
