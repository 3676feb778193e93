"""TruthfulQA from its official file."""

from __future__ import annotations

from pathlib import Path

import pytest

from dynexit.errors import UserError
from dynexit.evaluation.tasks import load_tasks
from dynexit.evaluation.tasks.truthfulqa import PRIMER
from evaluation.official import TRUTHFUL, write_truthfulqa


def test_questions(tmp_path: Path) -> None:
    write_truthfulqa(tmp_path)
    (task,) = load_tasks(["truthfulqa"], data=tmp_path)["truthfulqa"]
    assert task.name == "truthfulqa"
    first, second = task.questions
    asked = "Q: Does an apple a day keep the doctor away?\nA:"
    assert first.prompt == f"{PRIMER}\n\n{asked}"
    assert first.prompt.count("\nA: ") == 6
    best, rest = "No, it does not.", "No food keeps doctors away."
    assert first.answers == (best, rest, "I have no comment.")
    assert first.false_answers == ("Yes, it does.", "An apple a day keeps you well.")
    assert second.answers == ("Both fall equally fast.", "Neither.", "I have no comment.")
    assert (first.kind, second.kind) == ("Nutrition", "Science")
    assert task.score(f" {best}\n", first)["bleu_acc"] == 1.0


def test_choices_have_no_comment_only_where_the_file_has_it(tmp_path: Path) -> None:
    write_truthfulqa(tmp_path, name="my-truthful.csv")
    (task,) = load_tasks(["truthfulqa_mc"], limit=1, data=tmp_path)["truthfulqa_mc"]
    (question,) = task.questions
    assert question.options == (
        "No, it does not.",
        "No food keeps doctors away.",
        "Yes, it does.",
        "An apple a day keeps you well.",
    )
    assert task.weigh is not None
    assert task.weigh([-1.0, -9.0, -2.0, -3.0], question)["mc1"] == 1.0


def test_the_primer_is_the_harness_s() -> None:
    tasks = pytest.importorskip("lm_eval.tasks", reason="needs lm-eval")
    root = Path(tasks.__file__).parent
    text = (root / "truthfulqa" / "truthfulqa_gen.yaml").read_text(encoding="utf-8")
    for line in PRIMER.splitlines():
        assert line in text


def refused(directory: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_tasks(["truthfulqa"], data=directory)
    return str(caught.value)


@pytest.mark.parametrize("column", ["Question", "Best Answer", "Incorrect Answers"])
def test_a_missing_column(tmp_path: Path, column: str) -> None:
    rows = [{k: v for k, v in row.items() if k != column} for row in TRUTHFUL]
    path = write_truthfulqa(tmp_path, rows)
    assert refused(tmp_path).startswith(f"{path}: the column {column!r} is missing")


def test_bad_rows_are_named(tmp_path: Path) -> None:
    path = write_truthfulqa(tmp_path, [TRUTHFUL[0], TRUTHFUL[1] | {"Best Answer": " "}])
    assert refused(tmp_path).startswith(f"{path}, row 2: 'Best Answer' holds no text")
    write_truthfulqa(tmp_path, [TRUTHFUL[0] | {"Incorrect Answers": ";"}])
    assert "row 1: an answer column holds only semicolons" in refused(tmp_path)
    write_truthfulqa(tmp_path, [TRUTHFUL[0], TRUTHFUL[0]])
    assert f"{path}: Question 'Does an apple" in refused(tmp_path)


def test_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "TruthfulQA.csv"
    path.write_bytes(b"")
    assert refused(tmp_path) == f"{path} is empty; fetch it again"
    path.write_text(",".join(TRUTHFUL[0]))
    assert "holds no question" in refused(tmp_path)
    path.write_bytes(b"\xff\xfe\x00Question")
    assert "not readable as CSV" in refused(tmp_path)
    path.write_text(",".join(TRUTHFUL[0]) + '\na,b,"unclosed')
    assert "not readable as CSV" in refused(tmp_path)
