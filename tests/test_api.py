"""Python's own face: loading, generating, streaming, chatting, and mistakes in any of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import dynexit
from checkpoints import make_checkpoint
from dynexit.cli import app
from dynexit.inference.speculative import Lossless
from dynexit.reference.pair import exits_directory
from dynexit.reporting.depth import depth_colour

PROMPT = "Question: What is the capital of France?\nAnswer:"
MISTRAL = "reference:mistral"


@pytest.fixture(scope="module")
def model() -> dynexit.EarlyExitModel:
    return dynexit.load(MISTRAL, judge="mamba", max_new_tokens=8)


def test_importing_is_light() -> None:
    code = "import dynexit, sys; print({'torch', 'rich', 'jinja2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
    assert dynexit.__version__.startswith("0.")


def test_as_the_command_does(model: dynexit.EarlyExitModel) -> None:
    made = model.generate(PROMPT, risk=0.05)
    options = ("--judge", "mamba", "--risk", "0.05", "--max-new-tokens", "8", "--json")
    said = json.loads(CliRunner().invoke(app, ["generate", MISTRAL, PROMPT, *options]).stdout)
    tokens = [{"id": t.id, "text": t.text, "exit_layer": t.exit_layer} for t in made.tokens]
    assert tokens == [{k: v for k, v in t.items() if k != "score"} for t in said["tokens"]]
    assert made.layer_saving == said["layer_saving"] > 0


def test_streaming_gives_the_same(model: dynexit.EarlyExitModel) -> None:
    stream = model.stream(PROMPT)
    texts = [token.text for token in stream]
    assert "".join(texts) == stream.result.text == model.generate(PROMPT).text
    assert stream.result.ids == model.generate(PROMPT).ids


def test_several_prompts_at_once(model: dynexit.EarlyExitModel) -> None:
    prompts = [PROMPT, "Question: What is the capital of Italy?\nAnswer:"]
    made = model.generate_batch(prompts)
    assert [one.text for one in made] == [model.generate(one).text for one in prompts]


def test_a_call_says_otherwise(model: dynexit.EarlyExitModel) -> None:
    assert model.choice().judge == "mamba"
    assert model.generate(PROMPT, judge="none").layer_saving == 0.0
    assert {t.exit_layer for t in model.generate(PROMPT, exit_layer=6).tokens} == {6}
    assert model.choice(threshold=0.5).threshold == 0.5
    assert model.choice(exits=exits_directory("mistral", "linear")).judge == "linear"
    assert model.choice(judge="margin", layers=[4, 8]).judge == "margin"
    assert len(model.generate(PROMPT, max_new_tokens=1).tokens) == 1
    assert model.choice().judge == "mamba"


def test_what_a_call_says_takes_the_place_of_what_contradicts_it() -> None:
    risky = dynexit.load(MISTRAL, risk=0.05)
    assert risky.choice(threshold=0.7).threshold == 0.7
    assert risky.choice(judge="linear", threshold=0.7).judge == "linear"
    assert risky.choice(judge="none").policy is None
    fixed = dynexit.load(MISTRAL, exit_layer=6)
    assert fixed.choice(judge="mamba").judge == "mamba"


def test_lossless_answers_are_the_full_models(model: dynexit.EarlyExitModel) -> None:
    full = model.generate(PROMPT, judge="none")
    drafted = model.generate(PROMPT, lossless=True, threshold=0.5)
    assert drafted.ids == full.ids
    assert drafted.drafting is not None
    assert f"{drafted.drafting.accepted} of {drafted.drafting.drafts} drafts accepted" in repr(
        drafted
    )
    stream = model.stream(PROMPT, lossless=Lossless(max_draft=2), threshold=0.5)
    assert [token.id for token in stream] == full.ids
    (batched,) = model.generate_batch([PROMPT], lossless=True, threshold=0.5)
    assert batched.ids == full.ids
    assert model.generate(PROMPT, lossless=True, judge="none").drafting is None


def test_chat_asks_as_the_template_says(model: dynexit.EarlyExitModel) -> None:
    made = model.chat("What is the capital of France?")
    assert made.ids == model.generate(PROMPT).ids
    talk = [
        {"role": "user", "content": "What is the capital of France?"},
        {"role": "assistant", "content": made.text},
        {"role": "user", "content": "What is the capital of Italy?"},
    ]
    whole = f"{PROMPT}{made.text.rstrip()}\nQuestion: What is the capital of Italy?\nAnswer:"
    stream = model.stream_chat(talk, stop="Rome")
    assert "".join(token.text for token in stream) == stream.result.text
    assert stream.result.ids == model.generate(whole, stop="Rome").ids


def test_chat_needs_a_template(tmp_path: Path) -> None:
    bare = dynexit.load(make_checkpoint(tmp_path / "bare", "mistral"))
    with pytest.raises(dynexit.UserError, match="has no chat template"):
        bare.chat("Hello")


def test_a_completion_shows_itself(model: dynexit.EarlyExitModel) -> None:
    made = model.generate(PROMPT)
    assert str(made) == made.text == f"{made}"
    assert repr(made).startswith(f"<Completion {made.text!r}: {len(made.tokens)} tokens, mean exit")
    shown = made._repr_html_()
    for token in made.tokens:
        assert f'title="exit layer {token.exit_layer}, score {token.score:.3f}"' in shown
        assert depth_colour(token.exit_layer, model.layers) in shown
    assert f"{model.layers} (full depth)" in shown


def test_texts_are_escaped_in_a_notebook() -> None:
    from dynexit.inference.generation import GeneratedToken

    token = GeneratedToken(1, "<script>&", 3, None)
    made = dynexit.Completion(4, (token,), token.text, 4, 1.0, 0.1, "length")
    assert "&lt;script&gt;&amp;" in made._repr_html_()
    assert "<script>" not in made._repr_html_()
    assert "score" not in made._repr_html_()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tempurature": 1.0}, "tempurature is no option"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"threshold": 1.5}, "outside 0 to 1"),
        ({"risk": 0.123}, "no certificate of risk 0.123"),
        ({"judge": "coin"}, "'coin' is not known"),
        ({"threshold": 0.5, "exit_layer": 6}, "give one or the other"),
        ({"lossless": "yes"}, "lossless"),
    ],
)
def test_mistakes_are_told(
    model: dynexit.EarlyExitModel, options: dict[str, object], words: str
) -> None:
    with pytest.raises(dynexit.UserError, match=words):
        model.generate(PROMPT, **options)  # type: ignore[arg-type]


def test_a_checkpoint_that_samples_does_so_unless_told_otherwise(tmp_path: Path) -> None:
    directory = make_checkpoint(tmp_path / "model", "mistral")
    says = {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "max_new_tokens": 5}
    (directory / "generation_config.json").write_text(json.dumps(says))
    model = dynexit.load(directory)
    assert (model.settings.temperature, model.settings.top_p) == (0.7, 0.9)
    seeds = {model.generate("ab", seed=seed).text for seed in range(4)}
    assert len(seeds) > 1
    plain = [model.generate("ab", temperature=0, top_p=1.0, seed=seed) for seed in range(2)]
    assert plain[0].ids == plain[1].ids
    assert len(plain[0].ids) == 5

    greedy = dynexit.load(directory, temperature=0)
    assert greedy.settings.greedy
    assert greedy.generate("ab").ids == plain[0].ids
    drawn = greedy.generate("ab", temperature=None, seed=1)  # back to the checkpoint's
    assert drawn.ids == model.generate("ab", seed=1).ids
    options = ["--seed", "1", "--max-new-tokens", "5", "--json"]
    said = json.loads(CliRunner().invoke(app, ["generate", str(directory), "ab", *options]).stdout)
    assert [token["id"] for token in said["tokens"]] == drawn.ids


def test_mistakes_show_at_loading(tmp_path: Path) -> None:
    with pytest.raises(dynexit.UserError, match="temperature is -1"):
        dynexit.load(MISTRAL, temperature=-1)
    directory = make_checkpoint(tmp_path / "model", "mistral")
    (directory / "generation_config.json").write_text('{"top_p": 7}')
    with pytest.raises(dynexit.UserError, match=r"generation_config\.json: top_p"):
        dynexit.load(directory)
    with pytest.raises(dynexit.UserError, match="'coin' is not known"):
        dynexit.load(MISTRAL, judge="coin")
    with pytest.raises(dynexit.UserError, match="dtype"):
        dynexit.load(MISTRAL, dtype="int3")
