"""``dynexit generate --lossless``: the contract, the text, and mistakes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from dynexit.cli import app

PROMPT = "Question: What is the capital of France?\\nAnswer:"


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["generate", *arguments])
    return result.exit_code, result.stdout, result.stderr


def described(*arguments: str) -> dict[str, Any]:
    code, out, err = run(*arguments, "--json")
    assert code == 0, err
    return json.loads(out)  # type: ignore[no-any-return]


@pytest.mark.parametrize(("model", "depth"), [("reference:mistral", 12), ("reference:mamba2", 24)])
def test_the_text_is_the_full_models(model: str, depth: int) -> None:
    full = described(model, PROMPT, "--exit-layer", str(depth))
    made = described(model, PROMPT, "--lossless")
    assert made["text"] == full["text"]
    assert [t["id"] for t in made["tokens"]] == [t["id"] for t in full["tokens"]]
    assert made["draft_tokens"] > 0
    assert 0 < made["accepted_tokens"] <= made["draft_tokens"]
    assert made["acceptance_rate"] == made["accepted_tokens"] / made["draft_tokens"]
    assert made["speedup"] > 0.0
    assert made["lossless"]
    drafted = [t["exit_layer"] < depth for t in made["tokens"]]
    assert sum(drafted) == made["accepted_tokens"]
    assert 0.0 < made["layer_saving"] < 1.0
    assert made["byte_saving"] > 0.0
    assert made["flop_saving"] <= 0.0  # no layer is skipped for good


def test_every_draft_of_a_layer() -> None:
    made = described(
        "reference:mistral", PROMPT, "--lossless", "--exit-layer", "1", "--max-new-tokens", "8"
    )
    full = described("reference:mistral", PROMPT, "--max-new-tokens", "8")
    assert made["text"] == full["text"]
    assert {t["exit_layer"] for t in made["tokens"]} <= {1, 12}


def test_the_last_layer_drafts_nothing() -> None:
    made = described("reference:mistral", PROMPT, "--lossless", "--exit-layer", "12")
    assert made["draft_tokens"] == 0
    assert made["acceptance_rate"] == 0.0
    assert made["layer_saving"] == 0.0


def test_sampling_with_a_seed_repeats_itself() -> None:
    sampled = ("reference:mamba2", PROMPT, "--lossless", "--temperature", "1.5", "--seed", "3")
    assert described(*sampled)["text"] == described(*sampled)["text"]


def test_bounded_modes_say_so() -> None:
    made = described("reference:mamba2", PROMPT, "--lossless", "--verify-below", "0")
    assert not made["lossless"]
    assert made["accepted_tokens"] == made["draft_tokens"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--lossless", "--state", "copy"), "--state copy"),
        (("--lossless", "--max-draft", "0"), "max_draft is 0"),
        (("--lossless", "--verify-below", "2"), "verify_below is 2"),
        (("--lossless", "--verify-every", "0"), "verify_every is 0"),
        (("--strict",), "--strict is about --lossless"),
        (("--max-draft", "3"), "--max-draft is about --lossless"),
    ],
)
def test_mistakes(arguments: tuple[str, ...], said: str) -> None:
    code, out, err = run("reference:mistral", PROMPT, *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1
