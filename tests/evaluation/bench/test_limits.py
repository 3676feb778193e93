"""The machine's limits: probes, their bandwidths, and the machine suite."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dynexit.evaluation.bench.limits import Limits, Probe, cpu_name
from dynexit.evaluation.bench.matrices import DTYPES, biggest_shape, by_projection, by_torch
from dynexit.evaluation.bench.rounds import Found, Samples, measure
from dynexit.evaluation.bench.subject import open_model
from evaluation.bench.quick import READ_BYTES, run, tiny

SHAPE = (96, 256)
SIZES = {"fp32": 4.0, "bf16": 2.0, "int8": 1.0, "int4": 0.5}


def test_machine_suite(tmp_path: Path) -> None:
    report = run("machine", tiny(tmp_path, "mistral"))
    assert report.rows[0]["what"] == "read"
    for row in report.rows:
        assert set(row) == {"what", "dtype", "by", "gb_per_second", "low", "high"}
        assert 0 < row["low"] <= row["gb_per_second"] <= row["high"]
    probes = {(row["dtype"], row["by"]) for row in report.rows[1:]}
    assert {(dtype, "dynexit") for dtype in ("fp32", "bf16", "int8")} <= probes
    assert {("fp32", "torch"), ("bf16", "torch")} <= probes


def test_what_is_told_of_the_machine() -> None:
    told = run("machine", open_model("reference:mistral"), rounds=1).machine
    assert told["cpu"] == cpu_name() != ""
    assert told["threads"] == torch.get_num_threads()
    assert told["torch"] == torch.__version__
    assert told["date"].count("-") == 2
    assert told["read_gb_per_s"] > 0
    assert set(told["matvec_gb_per_s"]) == set(DTYPES)
    assert told["matvec_shape"] == [512, 256]


@pytest.mark.parametrize("dtype", DTYPES)
def test_products_of_all_matrices(dtype: str) -> None:
    weights = SHAPE[0] * SHAPE[1] * SIZES[dtype]
    for make in (by_torch, by_projection):
        made = make(dtype, SHAPE, round(3.5 * weights))
        if made is None:  # this processor has no such kernel
            continue
        assert len(made.products) == 3
        assert made.nbytes == pytest.approx(3 * weights, rel=0.1)
        outputs = [product(made.vector) for product in made.products]
        assert all(y.shape[-1] == SHAPE[0] and y.isfinite().all() for y in outputs)


def test_a_shape_that_cannot_be_packed() -> None:
    assert by_projection("int4", (8, 24), 1) is None
    assert by_torch("int4", (8, 24), 1) is None


def test_bandwidths_are_bytes_by_seconds(tmp_path: Path) -> None:
    subject = tiny(tmp_path, "mamba2")
    limits = Limits(subject.config, subject.weight_bytes, READ_BYTES)
    runs = limits.runs()
    found = measure(runs, 2)
    assert set(found.samples) == set(runs) == set(limits.probes())
    samples = Samples((0.5, 0.25, 1.0))
    fake = replace(found, samples={**found.samples, Probe("read"): samples})
    rate = READ_BYTES / 1e9
    told = limits.bandwidth(Probe("read"), fake)
    assert told == {"median": 2 * rate, "low": rate, "high": 4 * rate}
    assert limits.bandwidth(Probe("read"), Found({})) is None
    assert limits.best("fp32", Found({})) is None
    both = [limits.bandwidth(Probe("matvec", "fp32", by), found) for by in ("torch", "dynexit")]
    assert limits.best("fp32", found) == max(each["median"] for each in both if each)


def test_biggest_matrix_of_a_layer() -> None:
    assert biggest_shape(open_model("reference:mamba2").config) == (1031, 224)
