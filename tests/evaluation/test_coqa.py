"""CoQA from its official file: prompts, histories, scores, domains."""

from __future__ import annotations

import string
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from dynexit.errors import UserError
from dynexit.evaluation.metrics import exact_match, leave_one_out, token_f1
from dynexit.evaluation.tasks import load_tasks
from dynexit.evaluation.tasks.coqa import official_form, score
from dynexit.evaluation.tasks.task import Question
from evaluation.official import said, story, write, write_coqa

SQUAD = "transformers.data.metrics.squad_metrics"  # which transformers 5 has no more


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The harness's CoQA, with what it needs of SQuAD's official script where that is gone."""
    pytest.importorskip("lm_eval", reason="needs lm-eval")
    try:
        return import_module("lm_eval.tasks.coqa.utils")
    except ModuleNotFoundError:
        *parents, _ = SQUAD.split(".")
        squad = ModuleType(SQUAD)
        squad.compute_exact = squad_exact  # type: ignore[attr-defined]
        squad.compute_f1 = squad_f1  # type: ignore[attr-defined]
        metrics = ModuleType(".".join(parents))
        metrics.squad_metrics = squad  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, metrics.__name__, metrics)
        monkeypatch.setitem(sys.modules, SQUAD, squad)
        monkeypatch.setattr("transformers.data.metrics", metrics, raising=False)
        return import_module("lm_eval.tasks.coqa.utils")


def squad_words(text: str) -> list[str]:
    """Words as SQuAD 2.0 counts them: no punctuation, then no articles."""
    bare = "".join(c for c in text.lower() if c not in string.punctuation)
    return [word for word in bare.split() if word not in ("a", "an", "the")]


def squad_exact(gold: str, answer: str) -> int:
    return int(squad_words(gold) == squad_words(answer))


def squad_f1(gold: str, answer: str) -> float:
    wanted, given = squad_words(gold), squad_words(answer)
    if not wanted or not given:
        return int(wanted == given)
    same = sum(min(wanted.count(word), given.count(word)) for word in set(wanted))
    if same == 0:
        return 0
    precision, recall = same / len(given), same / len(wanted)
    return 2 * precision * recall / (precision + recall)


STORY = "Tom has a red ball. He gave it to Ann."


def test_gold_history(tmp_path: Path) -> None:
    write_coqa(tmp_path)
    (task,) = load_tasks(["coqa"], data=tmp_path)["coqa"]
    assert len(task.questions) == 6
    first, second, third = task.questions[:3]
    assert first.prompt == f"{STORY}\n\nQ: Who has a ball?\n\nA:"
    assert second.prompt == f"{first.prompt} Tom\n\nQ: What colour?\n\nA:"
    assert third.prompt == f"{second.prompt} red\n\nQ: Who got it?\n\nA:"
    assert second.answers == ("red", "It is red", "Red.")
    assert [q.kind for q in task.questions] == ["mctest"] * 3 + ["cnn"] * 3
    assert first.pieces == ()


def test_own_history_has_the_pieces_between_answers(tmp_path: Path) -> None:
    write_coqa(tmp_path)
    (task,) = load_tasks(["coqa"], limit=2, data=tmp_path, history="own")["coqa"]
    first, second = task.questions
    assert second.pieces == (*first.pieces, "\n\nQ: What colour?\n\nA:")
    assert " Tom".join(second.pieces) == second.prompt
    with pytest.raises(UserError, match="--history 'mine' is not known"):
        load_tasks(["coqa"], data=tmp_path, history="mine")


def test_prompts_are_the_harness_s(harness: ModuleType, tmp_path: Path) -> None:
    write_coqa(tmp_path)
    (task,) = load_tasks(["coqa"], data=tmp_path)["coqa"]
    one = story()
    for turn in (1, 2, 3):
        columns = {
            name: {"input_text": [row["input_text"] for row in one[name][:turn]]}
            for name in ("questions", "answers")
        }
        assert harness.doc_to_text({**one, **columns}) == task.questions[turn - 1].prompt


GOLDS = ("Tom", "Tom", "the boy Tom")
ANSWERS = ["Tom", "the boy Tom.", "boy", "Ann", "", "the", "Tom Tom"]


def test_by_hand() -> None:
    question = Question("Who?", GOLDS)
    # leaving out either "Tom", another is left; leaving out the third, both are: always 1
    assert score("Tom.", question) == {"em": 1.0, "f1": 1.0}
    # "boy tom" matches the third, which is left out in one choice of three; then F1 is 2/3
    assert score(" a boy Tom", question)["em"] == pytest.approx(2 / 3)
    assert score(" a boy Tom", question)["f1"] == pytest.approx((1 + 1 + 2 / 3) / 3)
    assert score("Tom", Question("Who?", ("Tom",))) == {"em": 1.0, "f1": 1.0}


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("golds", [GOLDS, GOLDS[2:], ("a", "no", "No.")])
def test_equals_the_harness(harness: ModuleType, answer: str, golds: tuple[str, ...]) -> None:
    theirs = harness.compute_scores(list(golds), answer)
    assert leave_one_out(exact_match, answer, golds) == pytest.approx(theirs["em"])
    assert leave_one_out(token_f1, answer, golds) == pytest.approx(theirs["f1"])


def test_stories_of_the_hub_become_official_ones(tmp_path: Path) -> None:
    one = story()
    row = {
        "id": "s1",
        "source": "mctest",
        "story": STORY,
        "questions": columns(one["questions"]),
        "answers": columns(one["answers"]),
        "additional_answers": {k: columns(v) for k, v in one["additional_answers"].items()},
    }
    write_coqa(tmp_path, [dict(official_form(row))])
    (ours,) = load_tasks(["coqa"], data=tmp_path)["coqa"]
    write_coqa(tmp_path, [one])
    assert ours.questions == load_tasks(["coqa"], data=tmp_path)["coqa"][0].questions


def columns(rows: list[dict[str, object]]) -> dict[str, list[object]]:
    return {name: [row[name] for row in rows] for name in ("input_text", "turn_id")}


def refused(directory: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_tasks(["coqa"], data=directory)
    return str(caught.value)


def test_bad_stories_are_named(tmp_path: Path) -> None:
    without = {k: v for k, v in story().items() if k != "answers"}
    path = write_coqa(tmp_path, [without])
    assert refused(tmp_path).startswith(f"{path}, story s1: 'answers' is missing")
    write_coqa(tmp_path, [story() | {"answers": said("Tom")}])
    assert "story s1: 1 answers for 3 questions" in refused(tmp_path)
    write_coqa(tmp_path, [story() | {"answers": said("Tom", "", "Ann")}])
    assert "story s1: 'input_text' holds no text" in refused(tmp_path)
    write_coqa(tmp_path, [story(), story()])
    assert refused(tmp_path).startswith(f"{path}: id 's1' stands twice")
    write_coqa(tmp_path, [story() | {"additional_answers": [1]}])
    assert "'additional_answers' is no object" in refused(tmp_path)
    write_coqa(tmp_path, [{"story": "x"}])
    assert "story 1: 'id' is missing" in refused(tmp_path)


def test_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "coqa-dev-v1.0.json"
    path.write_text('{"data": [')
    assert refused(tmp_path).startswith(f"{path} is not valid JSON")
    path.write_text("")
    assert str(path) in refused(tmp_path)
    write(path, {"version": "1.0"})
    assert refused(tmp_path).startswith(f"{path}: 'data' is missing")
    write(path, {"data": []})
    assert "'data' holds nothing" in refused(tmp_path)
    write(path, {"data": [7]})
    assert "story 1: 'id' is missing" in refused(tmp_path)
