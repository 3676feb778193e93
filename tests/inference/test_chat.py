"""A conversation loses its oldest turns, and no more of them than it must."""

from __future__ import annotations

from pathlib import Path

import pytest

from checkpoints import CONTEXT, make_checkpoint
from dynexit.inference.chat import fit_to_context
from dynexit.inference.chat_template import Message, questions_template
from dynexit.models import Model, load_model

SYSTEM: Message = {"role": "system", "content": "s" * 50}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_model(str(make_checkpoint(tmp_path_factory.mktemp("chat") / "m", "mistral")))


def turns(count: int) -> list[Message]:
    made: list[Message] = []
    for n in range(count):
        made += [
            {"role": "user", "content": f"{n}".rjust(20, "q")},
            {"role": "assistant", "content": f"{n}".rjust(20, "a")},
        ]
    return [*made, {"role": "user", "content": "last"}]


def test_a_short_conversation_stays_whole(model: Model) -> None:
    talk = [SYSTEM, *turns(2)]
    prompt = fit_to_context(model, questions_template(), talk, 100)
    assert prompt.messages == talk
    assert prompt.ids == questions_template().encode(model.tokenizer, talk)


@pytest.mark.parametrize("room", [10, 100, 300])
def test_the_oldest_turns_go(model: Model, room: int) -> None:
    talk = [SYSTEM, *turns(20)]
    template = questions_template()
    kept = fit_to_context(model, template, talk, room)
    assert len(kept.ids) + room <= CONTEXT
    assert kept.messages[0] == SYSTEM
    assert kept.messages[1:] == talk[-len(kept.messages) + 1 :]
    assert kept.messages[1]["role"] == "user"
    one_more = [SYSTEM, *talk[-len(kept.messages) - 1 :]]
    assert len(template.encode(model.tokenizer, one_more)) + room > CONTEXT


def test_the_last_turn_stays_however_long(model: Model) -> None:
    long: Message = {"role": "user", "content": "x" * 2 * CONTEXT}
    assert fit_to_context(model, questions_template(), [*turns(1), long], 10).messages == [long]


def test_without_a_limit_nothing_goes(tmp_path: Path) -> None:
    model = load_model(str(make_checkpoint(tmp_path / "m", "mamba2")))
    assert model.backbone.config.max_positions is None
    talk = turns(50)
    assert fit_to_context(model, questions_template(), talk, 10).messages == talk
