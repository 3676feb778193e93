"""Calibration questions: one of each conversation, none that eval asks."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynexit.errors import UserError
from dynexit.evaluation.independent import (
    calibration_tasks,
    conversations,
    data_digest,
    independent,
    prompt_task,
)
from dynexit.evaluation.tasks.reference import reference_tasks
from dynexit.evaluation.tasks.task import Question, Task


def task(lengths: list[int]) -> Task:
    """Conversations of so many turns, each prompt holding the turns before."""
    turns = [
        Question(f"story {number}." + "".join(f" Q{t}?" for t in range(turn + 1)), ("yes",))
        for number, length in enumerate(lengths)
        for turn in range(length)
    ]
    return Task("talk", tuple(turns), lambda answer, question: {}, (), 4)


@given(st.lists(st.integers(1, 5), max_size=8), st.integers(1, 8), st.integers(0, 3))
def test_one_turn_of_each_conversation(lengths: list[int], limit: int, seed: int) -> None:
    whole = task(lengths)
    assert [len(turns) for turns in conversations(whole.questions)] == lengths
    drawn = independent(whole, limit, seed).questions
    assert len(drawn) == min(limit, len(lengths))
    assert len({question.prompt.split(".")[0] for question in drawn}) == len(drawn)
    assert set(drawn) <= set(whole.questions)
    assert drawn == independent(whole, limit, seed).questions


def test_every_turn_has_its_chance() -> None:
    whole = task([3])
    drawn = {independent(whole, 1, seed).questions[0].prompt for seed in range(40)}
    assert len(drawn) == 3


def test_what_is_to_be_avoided() -> None:
    whole = task([1, 1, 1])
    avoid = {whole.questions[0].prompt, whole.questions[2].prompt}
    assert independent(whole, 5, 0, avoid).questions == whole.questions[1:2]


def test_reference_questions_are_not_those_of_eval() -> None:
    found = calibration_tasks(["reference"], None, None)
    assert [len(part.questions) for part in found] == [100, 100, 100]
    for part, asked in zip(found, reference_tasks(), strict=True):
        assert part.name == asked.name
        prompts = [question.prompt for question in part.questions]
        assert len(set(prompts)) == len(prompts)
        assert not {question.prompt for question in asked.questions} & set(prompts)
    stories = next(part for part in found if part.name == "stories")
    assert len({question.prompt.split("\n")[0] for question in stories.questions}) == 100
    assert [len(p.questions) for p in calibration_tasks(["reference"], 7, None)] == [7, 7, 7]


def test_unknown_task() -> None:
    with pytest.raises(UserError, match="not known"):
        calibration_tasks(["reference", "squad"], None, None)
    with pytest.raises(UserError, match="no task named"):
        calibration_tasks([], None, None)


def test_prompts_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"prompt": "a"}\n{"prompt": "b", "answer": "c"}\n')
    found = prompt_task(path, None, 9)
    assert {question.prompt for question in found.questions} == {"a", "b"}
    assert (found.max_new_tokens, found.stop) == (9, ())
    assert len(prompt_task(path, 1, 9).questions) == 1
    path.write_text('{"text": "a whole text"}\n')
    with pytest.raises(UserError, match="without a prompt"):
        prompt_task(path, None, 9)


def test_digest_tells_data_apart() -> None:
    digests = {data_digest([task(lengths)]) for lengths in ([1], [2], [1, 1], [2])}
    assert len(digests) == 3
