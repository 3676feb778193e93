"""The study of fine-tuning: what exits save on followed texts, and the study of unread models."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from dynexit.training.finetune.texts import Rows
from training.tiny import backbone

STUDY = Path(__file__).parents[2] / "studies" / "finetune"


@pytest.fixture(scope="module")
def saving() -> ModuleType:
    spec = importlib.util.spec_from_file_location("saving", STUDY / "saving.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["saving"] = module  # where its dataclass looks for itself
    spec.loader.exec_module(module)
    return module


def test_tokens_leave_at_the_first_exit_that_is_sure(saving: ModuleType) -> None:
    scores = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.1, 0.3], [0.8, 0.9]])
    same = torch.tensor([[True, True], [True, False], [False, False], [True, False]])
    seen = saving.Seen(scores, same)
    # at layers 2, 4, the last (8), and 2
    assert seen.decode(0.5, (2, 4), 8) == (0.75, 0.5)
    assert seen.decode(1.1, (2, 4), 8) == (1.0, 0.0)


@pytest.mark.parametrize("kind", ["mistral", "mamba2"])
def test_what_is_seen_is_what_layers_say(kind: str, saving: ModuleType) -> None:
    model = backbone(kind)
    torch.manual_seed(1)
    ids = torch.randint(model.config.vocab, (2, 9))
    learned = torch.ones(2, 9, dtype=torch.bool)
    learned[1, 4:] = False
    rows = Rows(ids, ids.roll(-1, dims=1), learned)
    layers = (1, 3)
    with torch.no_grad():
        seen = saving.see(model, [rows, rows], layers)
        place = model.place([0, 0], [9, 9])
        best = [
            model.readout(model.run(model.embed(ids), None, 0, stop, place)[learned]).argmax(-1)
            for stop in (*layers, model.depth)
        ]
    assert seen.scores.shape == seen.same.shape == (26, 2)
    for exit in range(2):
        assert torch.equal(seen.same[:13, exit], best[exit] == best[-1])
    found = saving.saving(model, [[rows], [rows]], layers, 0.9)
    assert found["consistency"] >= 0.9
    assert 0.0 <= found["layer_saving"] < 1.0


@pytest.mark.slow
def test_the_grown_model(tmp_path: Path) -> None:
    words = ("--steps", "2", "--grow", "2", "--limit", "1", "--work", "work", "--out", ".")
    command = [sys.executable, str(STUDY / "unread.py"), "grown", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first = json.loads((tmp_path / "unread-grown.json").read_text())
    assert list(first["ways"]) == ["frozen", "ordinary", "early exit"]
    for row in first["ways"].values():
        assert [point["layer"] for point in row["curve"]] == list(range(1, 13))
        assert row["curve"][-1]["agreement"] == 1.0
    assert "| early exit |" in (tmp_path / "unread.md").read_text()
    for path in (tmp_path / "work" / "grown").glob("*.json"):
        path.unlink()  # measured again, not trained again
    assert subprocess.run(command, cwd=tmp_path).returncode == 0
    assert json.loads((tmp_path / "unread-grown.json").read_text()) == first


def test_a_model_that_is_none_of_them(tmp_path: Path) -> None:
    command = [sys.executable, str(STUDY / "unread.py"), "gpt", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "choose from grown and smollm2" in done.stderr
