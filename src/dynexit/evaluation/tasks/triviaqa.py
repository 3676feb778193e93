"""TriviaQA (Joshi et al. 2017): trivia, from memory or with evidence.

Closed-book, the prompt and the end of an answer are those of lm-evaluation-harness, the scores
those of the official evaluation (triviaqa_evaluation.py). With evidence, the beginning of the first
document that has any text stands before the question: the text in the file itself, the official
evidence file beside it, or the excerpt of the search result.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from dynexit.errors import UserError
from dynexit.evaluation.metrics_triviaqa import exact_match, normalise, token_f1
from dynexit.evaluation.tasks.official import check_unique, entries, find_file, from_hub, text
from dynexit.evaluation.tasks.task import Question, Source, Task
from dynexit.files import read_json

CLOSED_BOOK, EVIDENCE = "triviaqa", "triviaqa_evidence"
FILES = (
    "unfiltered-web-dev.json",
    "web-dev.json",
    "wikipedia-dev.json",
    "verified-web-dev.json",
    "verified-wikipedia-dev.json",
)
STOP = ("\n", ".", ",")
MAX_NEW_TOKENS = 24
EVIDENCE_WORDS = 400  # of a document, from its beginning: the answer tends to be there
_HUB = "mandarjoshi/trivia_qa"
# Lists of documents, the fields that may hold their text, and the folder of the official files.
_DOCUMENTS = (
    ("EntityPages", ("WikiContext",), "wikipedia"),
    ("SearchResults", ("SearchContext", "Description"), "web"),
)


def triviaqa(source: Source) -> list[Task]:
    """Questions alone."""
    rows = islice(_rows(source.data, "rc.nocontext"), source.limit)
    questions = tuple(_question(row, where) for where, row, _ in rows)
    return [Task(CLOSED_BOOK, questions, score, STOP, MAX_NEW_TOKENS)]


def triviaqa_evidence(source: Source) -> list[Task]:
    """Questions with evidence; those without any text of evidence are left out."""
    rows = _rows(source.data, "rc")
    known = ((where, row, _evidence(row, folder, where)) for where, row, folder in rows)
    questions = (_question(row, where, evidence) for where, row, evidence in known if evidence)
    task = Task(EVIDENCE, tuple(islice(questions, source.limit)), score, STOP, MAX_NEW_TOKENS)
    if not task.questions:
        raise UserError(
            f"{source.data or _HUB}: no question has evidence text (EntityPages or SearchResults); "
            "unpack the official evidence folder beside the file, or ask triviaqa instead"
        )
    return [task]


def score(answer: str, question: Question) -> Mapping[str, float]:
    """Exact match and F1, the best over the aliases."""
    return {
        "em": exact_match(answer, question.answers),
        "f1": token_f1(answer, question.answers),
    }


def _question(row: Mapping[str, Any], where: str, evidence: str = "") -> Question:
    before = f"{evidence}\n\n" if evidence else ""
    prompt = f"{before}Question: {text(row, 'Question', where)}\nAnswer:"
    return Question(prompt, _golds(row, where))


def _golds(row: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """The normalised aliases and human answers, as officially counted."""
    answer = row.get("Answer")
    if not isinstance(answer, Mapping):
        raise UserError(f"{where}: 'Answer' is missing; take the dev or train file, not the test's")
    value = text(answer, "Value", f"{where}, Answer")
    own = f"{where}, Answer"
    aliases = _listed(answer, "NormalizedAliases", own) or [*_listed(answer, "Aliases", own), value]
    human = _listed(answer, "HumanAnswers", own)
    golds = dict.fromkeys(normalise(str(alias)) for alias in (*aliases, *human))
    first = normalise(value)
    return tuple(sorted(golds, key=lambda gold: gold != first))  # the order is else kept


def _listed(entry: Mapping[str, Any], field: str, where: str) -> list[Any]:
    """A field that may be missing, and else must hold a list."""
    found = entry.get(field) or []
    if not isinstance(found, list):
        raise UserError(f"{where}: {field!r} is no list; fetch the official file again")
    return found


def _evidence(row: Mapping[str, Any], folder: Path | None, where: str) -> str:
    """The first words of the first document that has any; "" where none has."""
    for name, fields, subfolder in _DOCUMENTS:
        for document in _listed(row, name, where):
            if not isinstance(document, Mapping):
                raise UserError(f"{where}: {name!r} holds no documents; fetch the file again")
            inline = (str(document.get(field) or "") for field in fields)
            filed = _filed(folder, subfolder, str(document.get("Filename") or ""))
            full, *excerpts = (*inline,)
            words = next((t for t in (full, filed, *excerpts) if t.strip()), "").split()
            if words:
                return " ".join(words[:EVIDENCE_WORDS])
    return ""


def _filed(folder: Path | None, subfolder: str, name: str) -> str:
    """The text of an official evidence file, which lies in evidence/web or evidence/wikipedia."""
    if folder is None or not name:
        return ""
    for base in (folder, folder.parent):  # the archive has qa/ and evidence/ side by side
        root = (base / "evidence" / subfolder).resolve()
        with suppress(OSError, ValueError):  # a name that no file can have
            path = (root / name).resolve()
            if path.is_relative_to(root) and path.is_file():
                return path.read_text(encoding="utf-8", errors="replace")
    return ""


def _rows(data: Path | None, hub: str) -> Iterator[tuple[str, Mapping[str, Any], Path | None]]:
    """Questions in the official form, each with its place in words and the folder of the file."""
    if data is None:
        for row in from_hub(_HUB, hub, "validation"):
            yield f"{_HUB}, question {row.get('question_id')}", official_form(row), None
        return
    path = find_file(data, FILES, "*trivia*.json")
    whole = read_json(path)
    rows = entries(whole, "Data", str(path))
    ids = [text(row, "QuestionId", f"{path}, question {n}") for n, row in enumerate(rows, 1)]
    check_unique(ids, "QuestionId", str(path))
    for one, row in zip(ids, rows, strict=True):
        if whole.get("VerifiedEval") and not row.get("QuestionPartOfVerifiedEval"):
            continue  # the official evaluation of verified files leaves these out
        yield f"{path}, question {one}", row, path.parent


def official_form(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A question of the hub in the form of the official file."""
    answer = row.get("answer") or {}
    pages, results = row.get("entity_pages") or {}, row.get("search_results") or {}
    return {
        "Question": row.get("question"),
        "Answer": {
            "Value": answer.get("value"),
            "Aliases": answer.get("aliases"),
            "NormalizedAliases": answer.get("normalized_aliases"),
        },
        "EntityPages": [{"WikiContext": t} for t in pages.get("wiki_context") or ()],
        "SearchResults": [{"SearchContext": t} for t in results.get("search_context") or ()],
    }
