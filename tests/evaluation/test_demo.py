"""The demo's work, on a tiny random model in the place of a reference model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from dynexit.evaluation.demo import DemoRecipe, applicable_states, run_demo
from dynexit.exits.exit_set import load_exit_set
from dynexit.exits.judges import DYNAMAX_JUDGES
from dynexit.models import Model
from dynexit.training import ExitRecipe

OTHER_STATES = {"mistral": ["copy", "propagate"], "mamba2": ["propagate", "freeze"]}


def test_states_by_kind_of_layer(model: Model) -> None:
    config = model.backbone.config
    assert applicable_states(config) == [*OTHER_STATES[config.family], "recompute"]


@pytest.mark.slow
def test_rows(model: Model, tmp_path: Path) -> None:
    counted: dict[str, int] = {}

    @contextmanager
    def counting(title: str, total: int) -> Iterator[Callable[[], None]]:
        counted[title] = -total
        yield lambda: counted.update({title: counted[title] + 1})

    config = replace(model.backbone.config, max_positions=None)
    model.backbone.config = config  # stories have more bytes than the tiny context
    training = ExitRecipe(prompts=10, epochs=1, max_new_tokens=4)
    recipe = DemoRecipe(validation=1, questions=2, training=training)
    named = replace(model, name=f"reference:{config.family}")
    result = run_demo(named, recipe, tmp_path / "exits", tmp_path / "work", counting)
    ways = {(row.judge, row.state) for row in result.rows}
    assert len(ways) == len(result.rows) == 10
    assert {("mamba", state) for state in applicable_states(config)} <= ways
    assert {(kind, "recompute") for kind in DYNAMAX_JUDGES} <= ways
    for row in result.rows:
        assert row.n == 6
        assert row.speedup > 0
        if row.threshold is None:
            assert (row.layer_saving, row.consistency, row.speedup) == (0.0, 1.0, 1.0)
    assert set(counted.values()) == {0}
    for kind in DYNAMAX_JUDGES:
        assert load_exit_set(tmp_path / "exits" / kind, model.backbone).judge.kind == kind
