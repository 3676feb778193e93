"""The depth suite: rows, shares of bytes, and what is asked wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dynexit.errors import UserError
from dynexit.evaluation.bench.subject import open_model
from evaluation.bench.quick import assert_seconds, rate, run, tiny

KEYS = {
    *("exit_layer", "state", "judge", "seconds", "low", "high", "tokens_per_second", "speedup"),
    *("byte_share", "realised_saving", "gb_per_second", "matvec_share"),
}
STATES = {
    "mistral": ["copy", "propagate", "recompute"],
    "mamba2": ["propagate", "freeze", "recompute"],
}


@pytest.mark.parametrize("kind", ["mistral", "mamba2"])
def test_every_layer_and_state_of_a_small_model(kind: str, tmp_path: Path) -> None:
    report = run("depth", tiny(tmp_path, kind))
    full, *exits = report.rows
    assert all(set(row) == KEYS for row in report.rows)
    assert_seconds(report.rows)
    assert (full["exit_layer"], full["state"], full["judge"]) == (4, "none", "none")
    assert full["speedup"] == full["byte_share"] == 1.0
    assert full["realised_saving"] is None
    assert full["matvec_share"] > 0
    wanted = [(state, layer) for state in STATES[kind] for layer in (1, 2, 3)]
    assert [(row["state"], row["exit_layer"]) for row in exits] == wanted
    for row in exits:
        assert row["tokens_per_second"] == rate(row)
        assert row["speedup"] == pytest.approx(full["seconds"] / row["seconds"])
        saved = 1 - row["seconds"] / full["seconds"]
        assert row["realised_saving"] == pytest.approx(saved / (1 - row["byte_share"]))
        assert row["matvec_share"] is None
        moved = row["gb_per_second"] * row["seconds"]
        assert moved == pytest.approx(full["gb_per_second"] * full["seconds"] * row["byte_share"])
    share = {(row["state"], row["exit_layer"]): row["byte_share"] for row in exits}
    for state in STATES[kind]:
        assert 0 < share[state, 1] < share[state, 2] < share[state, 3] < 1
    assert share["propagate", 1] > share["recompute", 1]


def test_layers_states_and_judges_as_asked(tmp_path: Path) -> None:
    report = run(
        *("depth", tiny(tmp_path, "mistral")),
        layers=(4, 2),
        states=("recompute",),
        judges=("fixed", "mamba", "margin", "margin+screen"),
    )
    asked = [(row["exit_layer"], row["state"], row["judge"]) for row in report.rows]
    exits = [(2, "recompute", j) for j in ("fixed", "mamba", "margin", "margin+screen")]
    assert asked == [(4, "none", "none"), *exits]


def test_reference_model() -> None:
    report = run("depth", open_model("reference:mistral"), 1, layers=(6,), states=("recompute",))
    assert report.dtype == "bf16"
    assert [row["exit_layer"] for row in report.rows] == [12, 6]
    assert set(report.machine["matvec_gb_per_s"]["bf16"]) == {"torch", "dynexit"}


@pytest.mark.parametrize(
    ("wish", "told"),
    [
        ({"layers": (2, 5)}, "--layers: layer 5 is outside the model; give layers from 1 to 4"),
        ({"layers": (0,)}, "layer 0 is outside"),
        ({"states": ("copy",)}, "'copy' needs attention"),
        ({"states": ("thaw",)}, "'thaw' is not known"),
        ({"judges": ("oracle",)}, "--judge 'oracle' is not known; choose from linear"),
        ({"rounds": 0}, "--rounds 0: give at least 1"),
        ({"tokens": 0}, "--tokens 0: give at least 1"),
    ],
)
def test_mistakes(wish: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=told):
        run("depth", tiny(tmp_path, "mamba2"), **wish)
