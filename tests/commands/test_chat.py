"""The chat through a pipe: lines in, answers out, and JSON at the end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from checkpoints import CONTEXT, make_checkpoint
from dynexit.cli import app

MISTRAL = "reference:mistral"
FRANCE, ITALY = "What is the capital of France?", "What is the capital of Italy?"


def chat(lines: str, *options: str, model: str = MISTRAL) -> Result:
    return CliRunner().invoke(app, ["chat", model, *options], input=lines.encode())


def talk(lines: str, *options: str, model: str = MISTRAL) -> list[dict[str, Any]]:
    """The turns of a chat that must do well."""
    result = chat(lines, *options, "--json", model=model)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("\n") == 1
    found: list[dict[str, Any]] = json.loads(result.stdout)["turns"]
    return found


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_checkpoint(tmp_path_factory.mktemp("chat") / "tiny", "mistral"))


def test_lines_in_answers_out() -> None:
    result = chat(f"{FRANCE}\n\n{ITALY}\n")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "Paris\nRome\n"


def test_json_tells_every_turn() -> None:
    first, second = talk(f"{FRANCE}\n{ITALY}")
    assert (first["said"], first["text"]) == (FRANCE, "Paris")
    assert (second["said"], second["text"]) == (ITALY, "Rome")
    for turn in (first, second):
        layers = [token["exit_layer"] for token in turn["tokens"]]
        assert turn["mean_exit_layer"] == pytest.approx(sum(layers) / len(layers))
        assert turn["layer_saving"] == pytest.approx(1 - turn["mean_exit_layer"] / 12)
        assert turn["tokens_per_second"] > 0
    assert second["prompt_tokens"] > first["prompt_tokens"]


def test_settings_change_on_the_way() -> None:
    lines = [
        "/threshold 0",
        FRANCE,
        "/full",
        FRANCE,
        "/judge margin",
        FRANCE,
        "/threshold 0",
        FRANCE,
    ]
    turns = talk("\n".join(lines))
    depths = [turn["mean_exit_layer"] for turn in turns]
    assert depths[0] == 2.0
    assert depths[1] == 12.0
    assert turns[1]["tokens"][0]["score"] is None
    assert 3.0 <= depths[2] < 12.0
    assert depths[3] == 3.0


def test_full_depth_ends_where_exits_are_asked_for() -> None:
    turns = talk("\n".join(["/full", FRANCE, "/threshold 0", FRANCE]), "--risk", "0.05")
    assert [turn["mean_exit_layer"] for turn in turns] == [12.0, 2.0]


def test_lossless_on_the_way() -> None:
    lines = ["/threshold 0.5", "/lossless on", FRANCE, "/lossless off", FRANCE, "/full", FRANCE]
    drafted, exited, full = talk("\n".join(lines))
    assert drafted["acceptance_rate"] > 0.0
    assert exited["acceptance_rate"] is full["acceptance_rate"] is None
    assert drafted["text"] == full["text"]


def test_reset_forgets() -> None:
    turns = talk(f"{FRANCE}\n/reset\n{FRANCE}\n")
    assert len(turns) == 1
    assert turns[0]["tokens"] == talk(FRANCE)[0]["tokens"]


def test_quit_ends_at_once() -> None:
    assert len(talk(f"{FRANCE}\n/quit\n{ITALY}\n")) == 1


def test_history_and_help_are_not_answers() -> None:
    result = chat(f"{FRANCE}\n/history\n/help\n")
    assert result.stdout == "Paris\n"
    assert f"> {FRANCE}\nParis" in result.stderr
    assert "/save FILE" in result.stderr


def test_save_writes_what_json_prints(tmp_path: Path) -> None:
    place = tmp_path / "talk.json"
    result = chat(f"{FRANCE}\n/save {place}\n", "--json")
    assert json.loads(place.read_text()) == json.loads(result.stdout)


def test_a_story_in_the_system_message() -> None:
    story = "Story: Emma went to the kitchen. Tom went to the garden."
    (turn,) = talk("Where is Tom?", "--system", story)
    assert "garden" in turn["text"]


def test_the_oldest_turns_give_way(tiny: str) -> None:
    line = "x" * 100
    turns = talk(
        "\n".join([line] * 8), "--template", "questions", "--max-new-tokens", "50", model=tiny
    )
    prompts = [turn["prompt_tokens"] for turn in turns]
    assert prompts[0] < prompts[1]
    assert max(prompts) <= CONTEXT - 50
    assert all(turn["text"] for turn in turns)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/threshold high", "is no number"),
        ("/threshold 1.5", "outside 0 to 1"),
        ("/judge coin", "'coin' is not known"),
        ("/judge", "needs a name"),
        ("/lossless perhaps", "say on or off"),
        ("/save", "needs the name of a file"),
        ("/dance", "/help lists them"),
    ],
)
def test_mistakes_end_a_chat_through_a_pipe(line: str, words: str) -> None:
    result = chat(f"{line}\n{FRANCE}\n")
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stdout == ""


def test_a_model_without_template_is_told(tiny: str) -> None:
    result = chat(FRANCE, model=tiny)
    assert result.exit_code == 2
    assert "has no chat template" in result.stderr
    assert "--template questions" in result.stderr


def test_bytes_that_are_no_text() -> None:
    result = CliRunner().invoke(app, ["chat", MISTRAL], input=b"ok\n\xff\xfe\n")
    assert result.exit_code == 2
    assert "line 2 is not UTF-8" in result.stderr
