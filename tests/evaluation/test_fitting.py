"""Prompts cut to the context: the shortest cut at the left that fits, never into the question."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynexit.evaluation.fitting import answer_room, fit_prompt, fitted
from dynexit.evaluation.tasks.task import Question, Task
from dynexit.models import Model
from dynexit.models.config import BackboneConfig

ASKED = "Q: where is Ann?\n\nA:"


def task(*questions: Question, max_new_tokens: int = 10) -> Task:
    return Task("t", questions, lambda answer, question: {}, ("\n",), max_new_tokens)


@pytest.fixture(scope="module")
def small(model: Model) -> Model:
    """A model of byte tokens with room for 40."""
    config: BackboneConfig = replace(model.backbone.config, max_positions=40)
    backbone = type(model.backbone)(config)
    return replace(model, backbone=backbone)


@given(
    words=st.lists(st.sampled_from(["a", "story", "é", "of\n"]), max_size=12),
    room=st.integers(1, 80),
)
def test_the_cut_is_the_shortest(small: Model, words: list[str], room: int) -> None:
    before = " ".join([*words, ""])
    prompt = f"{before}\n{ASKED}"
    found = fit_prompt(small, prompt, room)
    if found is None:
        assert len(ASKED) > room
        return
    assert prompt.endswith(found)
    assert found.endswith(ASKED)
    assert len(found.encode()) <= room
    cut = prompt[: len(prompt) - len(found)]
    if cut.strip():  # one word more would not have fitted
        more = [word.start() for word in re.finditer(r"\S+", cut)][-1]
        assert len(prompt[more:].encode()) > room


def test_the_last_question_counts_not_one_before(small: Model) -> None:
    prompt = "Question: x?\nAnswer: y\n\nQuestion: z?\nAnswer:"
    assert fit_prompt(small, prompt, 22) == "Question: z?\nAnswer:"
    assert fit_prompt(small, prompt, 19) is None
    assert fit_prompt(small, prompt, None) == prompt
    assert fit_prompt(small, "no question at all", 5) is None


def test_tasks_are_cut_and_what_never_fits_is_left_out(small: Model) -> None:
    long = Question("word " * 20 + f"\n{ASKED}", ("x",))
    short, never = Question(ASKED, ("x",)), Question("Q: " + "why " * 20, ("x",))
    found = fitted(small, task(long, never, short)).questions
    assert found[1] == short
    assert len(found) == 2
    assert found[0].prompt.endswith(f"word \n{ASKED}")
    room = answer_room(small, task())
    assert room == 30
    assert len(found[0].prompt) <= room


def test_without_a_longest_context_nothing_is_cut(small: Model) -> None:
    config = replace(small.backbone.config, max_positions=None)
    endless = replace(small, backbone=type(small.backbone)(config))
    whole = task(Question("word " * 2000 + ASKED, ("x",)))
    assert fitted(endless, whole) is whole


def test_options_need_room_too(small: Model) -> None:
    chosen = Question("word " * 20 + f"\n{ASKED}", ("x" * 9,), ("y" * 15,))
    weigh = replace(task(chosen), weigh=lambda logs, question: {})
    (found,) = fitted(small, weigh).questions
    assert len(found.prompt) <= 40 - 16 < len(found.prompt) + len("word ")
    assert (
        fitted(small, replace(weigh, questions=(replace(chosen, answers=("x" * 30,)),))).questions
        == ()
    )


def test_a_conversation_ends_where_a_turn_does_not_fit(small: Model) -> None:
    turns = ["Q: one?\nA:", "\nQ: " + "two " * 20 + "\nA:", "\nQ: three?\nA:"]
    questions = [
        Question("".join(turns[: n + 1]), ("x",), pieces=tuple(turns[: n + 1])) for n in range(3)
    ]
    again = replace(questions[0], kind="another")
    found = fitted(small, task(*questions, again)).questions
    assert found == (questions[0], again)
