"""The lossless suite: what is drafted, spoilt and accepted, and that no token changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from dynexit.errors import UserError
from dynexit.evaluation.bench.drafting import Misleading
from dynexit.evaluation.bench.identity import identity_after, identity_bytes
from dynexit.evaluation.bench.subject import Subject, open_model
from dynexit.evaluation.bench.suite import Row
from dynexit.models.quantization import QuantizationConfig
from dynexit.models.quantize import plan_quantization, write_quantized
from evaluation.bench.quick import assert_seconds, rate, run, tiny

KEYS = {
    *("exit_layer", "later_layers", "right", "drafting", "seconds", "low", "high"),
    *("tokens_per_second", "speedup", "acceptance_rate", "acceptance_length"),
    *("drafts_per_verification", "draft_share", "verify_share", "trail_bytes", "same_tokens"),
}
KINDS = ["mistral", "mamba2"]
MOST = 7  # drafts verified together
TOKENS = 40


def of(rows: list[Row], later: str, drafting: str, right: float | None = None) -> Row:
    wanted = (later, drafting, right)
    return next(r for r in rows if (r["later_layers"], r["drafting"], r["right"]) == wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_rows(kind: str, tmp_path: Path) -> None:
    rows = run("lossless", tiny(tmp_path, kind), tokens=TOKENS).rows
    assert_seconds(rows)
    assert {row["exit_layer"] for row in rows} == {2}
    for row in rows:
        assert set(row) == KEYS
        assert row["same_tokens"] is True
        assert row["tokens_per_second"] == rate(row)
        later = row["later_layers"]
        plain = of(rows, later, "none", 1.0 if later == "identity" else None)
        assert row["speedup"] == pytest.approx(plain["seconds"] / row["seconds"])
        if row is plain:
            assert row["acceptance_rate"] is None
            continue
        assert 0 < row["draft_share"] + row["verify_share"] < 1.001
        assert (row["trail_bytes"] > 0) == (kind == "mamba2")


@pytest.mark.parametrize("kind", KINDS)
def test_every_draft_is_right_where_later_layers_are_the_identity(
    kind: str, tmp_path: Path
) -> None:
    rows = run("lossless", tiny(tmp_path, kind), rounds=1, tokens=TOKENS).rows
    for drafting in ("adaptive", "fixed"):
        row = of(rows, "identity", drafting, 1.0)
        assert row["acceptance_rate"] == 1.0
        assert row["acceptance_length"] == row["drafts_per_verification"]
    assert of(rows, "identity", "fixed", 1.0)["drafts_per_verification"] == MOST
    assert of(rows, "own", "adaptive")["acceptance_rate"] < 1.0


def test_drafts_are_spoilt_at_the_rate_that_is_asked_for() -> None:
    hidden = torch.tensor([[1.0, -2.0]])
    misled = Misleading(0.8, seed=3)
    kept = [bool((misled.apply(0, hidden) == hidden).all()) for _ in range(2000)]
    assert sum(kept) / 2000 == pytest.approx(0.8, abs=0.03)
    again = Misleading(0.8, seed=3)
    assert kept == [bool((again.apply(0, hidden) == hidden).all()) for _ in range(2000)]


def test_fewer_drafts_stand_the_more_are_spoilt(tmp_path: Path) -> None:
    rows = run("lossless", tiny(tmp_path, "mistral"), rounds=3, tokens=TOKENS).rows
    rates = [
        of(rows, "identity", "adaptive", right)["acceptance_rate"] for right in (1.0, 0.9, 0.5)
    ]
    assert rates == sorted(rates, reverse=True)
    assert rates[1] < 1.0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bits", [None, 8, 4])
def test_identity_of_later_layers(kind: str, bits: int | None, tmp_path: Path) -> None:
    """What leaves the layers after the exit is what entered them; the others are the model's."""
    subject = quantized(tiny(tmp_path, kind), bits, tmp_path)
    model, silent = subject.backbone, identity_after(subject.backbone, 2)
    place = model.place([0], [5])
    hidden = model.embed(torch.arange(5)[None])
    with torch.inference_mode():
        at_exit = silent.run(hidden, None, 0, 2, place)
        assert torch.equal(at_exit, model.run(hidden, None, 0, 2, place))
        assert torch.equal(at_exit, silent.run(at_exit, None, 2, 4, place))
        assert not torch.equal(at_exit, model.run(at_exit, None, 2, 4, place))
    own = {p.data_ptr() for p in model.parameters()}
    added = sum(p.nbytes for p in silent.parameters() if p.data_ptr() not in own)
    assert added <= identity_bytes(subject.config, 2)
    if bits is None:
        assert added == identity_bytes(subject.config, 2)


def quantized(subject: Subject, bits: int | None, folder: Path) -> Subject:
    if bits is None:
        return subject
    out = folder / f"int{bits}"
    write_quantized(plan_quantization(subject.directory, QuantizationConfig(bits, 32)), out)
    return open_model(str(out))


@pytest.mark.parametrize(
    ("wish", "told"),
    [
        ({"layers": (4,)}, "nothing is drafted by layer 4, the last"),
        ({"layers": (0,)}, "layer 0 is outside"),
    ],
)
def test_mistakes(wish: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=told):
        run("lossless", tiny(tmp_path, "mamba2"), **wish)


def test_layers_as_asked(tmp_path: Path) -> None:
    rows = run("lossless", tiny(tmp_path, "mistral"), rounds=1, layers=(3, 1)).rows
    assert [row["exit_layer"] for row in rows] == [1] * 8 + [3] * 8
