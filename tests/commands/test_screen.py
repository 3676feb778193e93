"""``--screen``: judges of the readout look at rough logits first."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from dynexit.cli import app
from dynexit.commands.loading import load
from dynexit.errors import UserError
from dynexit.evaluation.certified import choose_certified
from dynexit.exits.choice import Wish

PROMPT = "Question: What is the capital of France?\nAnswer:"


def test_generate_with_a_screen() -> None:
    found = {}
    for more in ([], ["--screen", "32"]):
        asked = ["generate", "reference:mamba2", PROMPT, "--judge", "margin", "--json", *more]
        result = CliRunner().invoke(app, asked)
        assert result.exit_code == 0, result.output
        found[len(more)] = json.loads(result.stdout)
    plain, screened = found[0], found[2]
    assert screened["text"] == plain["text"]
    assert screened["judge"] == "margin"
    assert screened["layer_saving"] <= plain["layer_saving"]
    assert screened["flop_saving"] != plain["flop_saving"]


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        (Wish(screen=16), "--screen needs a judge"),
        (Wish(judge="none", screen=16), "--screen needs a judge"),
        (Wish(judge="saturation", screen=16), "leave --screen out"),
        (Wish(judge="margin", screen=0), "rank 0 is outside 1 to 224"),
    ],
)
def test_mistakes(wish: Wish, message: str) -> None:
    with pytest.raises(UserError, match=message):
        choose_certified(load("reference:mamba2"), wish, None)


def test_a_certificate_is_not_a_screened_judge() -> None:
    with pytest.raises(UserError, match="leave --screen or --risk out"):
        choose_certified(load("reference:mamba2"), Wish(screen=16), 0.05)
