"""CoQA (Reddy et al. 2019): conversations about a story, turn by turn.

A turn is asked with the story and the turns before it, in the form of lm-evaluation-harness. The
answers before it are the gold ones, or with history "own" those the model gave itself, as in use.
Scores are the official ones: mean over the choices of all but one of the human answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from dynexit.errors import UserError
from dynexit.evaluation.metrics import exact_match, leave_one_out, token_f1
from dynexit.evaluation.tasks.official import check_unique, entries, find_file, from_hub, text
from dynexit.evaluation.tasks.task import History, Question, Source, Task
from dynexit.files import read_json

NAME = "coqa"
FILES = ("coqa-dev-v1.0.json",)
MAX_NEW_TOKENS = 32
_HUB = "EleutherAI/coqa"


def coqa(source: Source) -> list[Task]:
    """Every turn of every story; ``kind`` is the domain (the file's ``source``)."""
    stories = _hub_stories() if source.data is None else _file_stories(source.data)
    turns = (turn for where, story in stories for turn in _turns(story, where, source.history))
    return [Task(NAME, tuple(islice(turns, source.limit)), score, ("\n",), MAX_NEW_TOKENS)]


def score(answer: str, question: Question) -> Mapping[str, float]:
    """Exact match and F1, leaving out one human answer at a time."""
    return {
        "em": leave_one_out(exact_match, answer, question.answers),
        "f1": leave_one_out(token_f1, answer, question.answers),
    }


def _turns(story: Mapping[str, Any], where: str, history: History) -> Iterator[Question]:
    asked = [text(q, "input_text", where) for q in entries(story, "questions", where)]
    answers = _answers(story, len(asked), where)
    pieces = [f"{text(story, 'story', where)}\n\nQ: {asked[0]}\n\nA:"]
    pieces += [f"\n\nQ: {question}\n\nA:" for question in asked[1:]]
    prompt = ""
    for turn, (piece, golds) in enumerate(zip(pieces, answers, strict=True)):
        prompt += piece
        own = tuple(pieces[: turn + 1]) if history == "own" else ()
        yield Question(prompt, golds, kind=str(story.get("source") or ""), pieces=own)
        prompt += f" {golds[0]}"


def _answers(story: Mapping[str, Any], turns: int, where: str) -> list[tuple[str, ...]]:
    """For each turn the answer and those of further people, in the file's order."""
    people = [entries(story, "answers", where)]
    further = story.get("additional_answers") or {}
    if not isinstance(further, Mapping):
        raise UserError(
            f"{where}: 'additional_answers' is no object; fetch the official file again"
        )
    people += [entries(further, person, f"{where}, additional_answers") for person in further]
    for given in people:
        if len(given) != turns:
            raise UserError(
                f"{where}: {len(given)} answers for {turns} questions; fetch the file again"
            )
    return [tuple(text(a, "input_text", where) for a in turn) for turn in zip(*people, strict=True)]


def _file_stories(data: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    path = find_file(data, FILES, "*coqa*.json")
    stories = entries(read_json(path), "data", str(path))
    ids = [text(story, "id", f"{path}, story {n}") for n, story in enumerate(stories, 1)]
    check_unique(ids, "id", str(path))
    yield from ((f"{path}, story {one}", story) for one, story in zip(ids, stories, strict=True))


def _hub_stories() -> Iterator[tuple[str, Mapping[str, Any]]]:
    for row in from_hub(_HUB, None, "validation"):
        yield f"{_HUB}, story {row.get('id')}", official_form(row)


def official_form(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A story of the hub, whose turns are columns, in the form of the official file."""
    further = row.get("additional_answers") or {}
    return {
        **row,
        "questions": _as_rows(row.get("questions") or {}),
        "answers": _as_rows(row.get("answers") or {}),
        "additional_answers": {key: _as_rows(further[key]) for key in further},
    }


def _as_rows(columns: Mapping[str, Iterable[str]]) -> list[dict[str, str]]:
    return [{"input_text": said} for said in columns.get("input_text", ())]
