"""The answers kept by a calibration that was interrupted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from checkpoints import make_checkpoint
from dynexit.errors import UserError
from dynexit.evaluation.kept_answers import KeptAnswers
from dynexit.models import load_model


@pytest.mark.parametrize("row", [{}, {"way": "full", "question": None}, {"question": 1}])
def test_a_row_that_is_no_answer_is_named(row: dict[str, object], tmp_path: Path) -> None:
    model = load_model(str(make_checkpoint(tmp_path / "model", "mistral", depth=1)))
    journal = tmp_path / "answers.jsonl"
    journal.write_text(json.dumps(row) + "\n")
    with pytest.raises(UserError, match=r"answers\.jsonl, row 1 is no answer of a calibration"):
        KeptAnswers(model, [], journal)
