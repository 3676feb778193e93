"""TriviaQA from its official files, closed-book and with evidence."""

from __future__ import annotations

from pathlib import Path

import pytest

from dynexit.errors import UserError
from dynexit.evaluation.tasks import Task, load_tasks
from dynexit.evaluation.tasks.triviaqa import EVIDENCE_WORDS, official_form
from evaluation.official import trivium, write, write_triviaqa

ASKED = "Question: Which road is in a film by Wilder?\nAnswer:"


def load(directory: Path, name: str = "triviaqa") -> Task:
    (task,) = load_tasks([name], data=directory)[name]
    return task


def test_closed_book(tmp_path: Path) -> None:
    write_triviaqa(tmp_path, [trivium(), trivium("tc_2")])
    task = load(tmp_path)
    question = task.questions[0]
    assert len(task.questions) == 2
    assert question.prompt == ASKED
    assert question.answers == ("sunset boulevard", "sunset blvd", "boulevard")
    assert task.score(" Sunset Blvd", question) == {"em": 1.0, "f1": 1.0}
    assert task.score("the boulevard!", question)["em"] == 1.0
    assert task.score("Sunset", question) == {"em": 0.0, "f1": pytest.approx(2 / 3)}
    assert len(load_tasks(["triviaqa"], limit=1, data=tmp_path)["triviaqa"][0].questions) == 1


def test_verified_files_count_only_verified_questions(tmp_path: Path) -> None:
    questions = [trivium("a", QuestionPartOfVerifiedEval=True), trivium("b")]
    write_triviaqa(tmp_path, questions, "verified-web-dev.json", VerifiedEval=True)
    assert len(load(tmp_path).questions) == 1


def test_evidence_in_the_file_beside_it_or_of_the_search(tmp_path: Path) -> None:
    inline = trivium("a", EntityPages=[{"Filename": "x.txt", "WikiContext": "A wiki page."}])
    filed = trivium("b", EntityPages=[{"Filename": "Film.txt"}])
    found = trivium("c", SearchResults=[{"Filename": "9/9.txt", "Description": "An excerpt."}])
    outside = trivium("d", EntityPages=[{"Filename": "../../secret.txt"}])
    (tmp_path / "secret.txt").write_text("outside the evidence folder")
    write_triviaqa(tmp_path / "qa", [inline, filed, found, trivium("e"), outside])
    page = tmp_path / "evidence" / "wikipedia" / "Film.txt"
    page.parent.mkdir(parents=True)
    page.write_text(" ".join(f"w{i}" for i in range(EVIDENCE_WORDS + 5)))
    prompts = [question.prompt for question in load(tmp_path, "triviaqa_evidence").questions]
    assert prompts[0] == f"A wiki page.\n\n{ASKED}"
    assert prompts[1].startswith("w0 w1 ")
    assert prompts[1].endswith(f" w{EVIDENCE_WORDS - 1}\n\n{ASKED}")
    assert prompts[2] == f"An excerpt.\n\n{ASKED}"
    assert len(prompts) == 3  # the two others have none


def test_questions_of_the_hub_become_official_ones(tmp_path: Path) -> None:
    row = {
        "question": "Which road is in a film by Wilder?",
        "question_id": "tc_1",
        "answer": {"value": "Sunset Boulevard", "normalized_aliases": ["sunset boulevard"]},
        "entity_pages": {"wiki_context": ["A wiki page."]},
        "search_results": {"search_context": ["A site."]},
    }
    write_triviaqa(tmp_path, [{"QuestionId": "tc_1", **official_form(row)}])
    (question,) = load(tmp_path, "triviaqa_evidence").questions
    assert question.prompt == f"A wiki page.\n\n{ASKED}"
    assert question.answers == ("sunset boulevard",)


def refused(directory: Path, name: str = "triviaqa") -> str:
    with pytest.raises(UserError) as caught:
        load(directory, name)
    return str(caught.value)


def test_bad_questions_are_named(tmp_path: Path) -> None:
    path = write_triviaqa(tmp_path, [trivium("a"), trivium("a")])
    assert refused(tmp_path).startswith(f"{path}: QuestionId 'a' stands twice")
    write_triviaqa(tmp_path, [{k: v for k, v in trivium("a").items() if k != "Answer"}])
    assert refused(tmp_path).startswith(f"{path}, question a: 'Answer' is missing")
    write_triviaqa(tmp_path, [trivium("a") | {"Question": ""}])
    assert "question a: 'Question' holds no text" in refused(tmp_path)
    write_triviaqa(tmp_path, [trivium("a") | {"Answer": {"Aliases": ["x"]}}])
    assert "question a, Answer: 'Value' is missing" in refused(tmp_path)
    write_triviaqa(tmp_path, [trivium("a")])
    assert "no question has evidence text" in refused(tmp_path, "triviaqa_evidence")
    write(path, {"data": []})
    assert refused(tmp_path).startswith(f"{path}: 'Data' is missing")


def test_fields_of_another_form_are_told(tmp_path: Path) -> None:
    write_triviaqa(tmp_path, [trivium("a") | {"Answer": {"Value": "x", "Aliases": 3}}])
    assert "Answer: 'Aliases' is no list" in refused(tmp_path)
    write_triviaqa(tmp_path, [trivium("a", EntityPages="text")])
    assert "'EntityPages' is no list" in refused(tmp_path, "triviaqa_evidence")
    write_triviaqa(tmp_path, [trivium("a", EntityPages=["text"])])
    assert "'EntityPages' holds no documents" in refused(tmp_path, "triviaqa_evidence")


def test_a_file_name_that_no_file_can_have_is_no_evidence(tmp_path: Path) -> None:
    pages = [{"Filename": "a" * 5000}, {"Filename": "\0", "WikiContext": "inline words"}]
    write_triviaqa(tmp_path, [trivium("a", EntityPages=pages)])
    (question,) = load(tmp_path, "triviaqa_evidence").questions
    assert "inline words" in question.prompt
