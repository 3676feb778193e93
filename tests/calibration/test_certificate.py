"""The file of certificates: it comes back as it went, and nothing else is taken for one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dynexit.calibration import (
    Certificate,
    load_certificate,
    load_certificates,
    save_certificates,
)
from dynexit.errors import UserError
from dynexit.exits.fingerprint import Fingerprint

BACKBONE = Fingerprint("mamba2", 12, 256, 3776, "ab" * 32)
FIRST = Certificate(
    risk_kind="text",
    risk=0.05,
    confidence=0.95,
    threshold=0.97,
    thresholds=(0.97, 0.97),
    empirical_risk=0.012,
    p_value=0.003,
    n=300,
    data="cd" * 8,
    judge="mamba",
    judge_digest="ef" * 8,
    layers=(3, 6),
    state="recompute",
    backbone=BACKBONE,
    dynexit="0.1.0",
    date="2026-01-31",
)
SECOND = replace(FIRST, risk=0.02, threshold=0.99, thresholds=(0.99, 0.99))


def test_comes_back(tmp_path: Path) -> None:
    path = save_certificates(tmp_path / "new", [FIRST, SECOND], BACKBONE)
    assert path == tmp_path / "new" / "calibration.json"
    assert load_certificates(tmp_path / "new", BACKBONE) == (FIRST, SECOND)
    assert load_certificates(tmp_path / "new") == (FIRST, SECOND)
    assert load_certificate(tmp_path / "new", 0.02) == SECOND


def test_keeps_others_and_replaces_its_own(tmp_path: Path) -> None:
    save_certificates(tmp_path, [FIRST, SECOND], BACKBONE)
    renewed = replace(FIRST, threshold=0.9, thresholds=(0.9, 0.9))
    save_certificates(tmp_path, [renewed], BACKBONE)
    assert load_certificates(tmp_path) == (SECOND, renewed)
    save_certificates(tmp_path, [], BACKBONE, replaced=[SECOND.key])  # no longer certified
    assert load_certificates(tmp_path) == (renewed,)


def test_says_which_there_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="dynexit calibrate"):
        load_certificate(tmp_path)
    save_certificates(tmp_path, [FIRST, SECOND], BACKBONE)
    with pytest.raises(UserError, match=r"text risk 0\.05 .*text risk 0\.02.*say which"):
        load_certificate(tmp_path)
    with pytest.raises(UserError, match=r"no certificate of risk 0\.1, state freeze, only of text"):
        load_certificate(tmp_path, 0.1, state="freeze")
    assert load_certificate(tmp_path, 0.05, risk_kind="text", judge="mamba") == FIRST


def test_another_backbone(tmp_path: Path) -> None:
    save_certificates(tmp_path, [FIRST], BACKBONE)
    for other in (replace(BACKBONE, digest="00" * 32), replace(BACKBONE, depth=24)):
        with pytest.raises(UserError, match=r"calibration\.json was made for .*calibrate again"):
            load_certificates(tmp_path, other)
        with pytest.raises(UserError, match="calibrate again"):
            save_certificates(tmp_path, [], other)
    assert load_certificates(tmp_path) == (FIRST,)


def change(path: Path, how: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    how(content)
    path.write_text(json.dumps(content))


BROKEN: dict[str, Callable[[dict[str, Any]], object]] = {
    "format 2 is unknown": lambda c: c.update(format=2),
    "field format is missing": lambda c: c.pop("format"),
    r"backbone\.digest is missing": lambda c: c["backbone"].pop("digest"),
    r"certificates\[0\]\.n is missing": lambda c: c["certificates"][0].pop("n"),
    "n must be at least 1": lambda c: c["certificates"][0].update(n=0),
    "risk must be from 0 to 1": lambda c: c["certificates"][0].update(risk=5),
    "risk must be a number": lambda c: c["certificates"][0].update(risk="low"),
    "threshold must be at least 0": lambda c: c["certificates"][0].update(threshold=-1),
    "thresholds must be one an exit layer": lambda c: c["certificates"][0].update(layers=[3]),
    "p_value must be at most": lambda c: c["certificates"][0].update(p_value=0.2),
    "certificates must be a list": lambda c: c.update(certificates={}),
    "must be a list of objects": lambda c: c.update(certificates=[3]),
}


@pytest.mark.parametrize("told", BROKEN)
def test_broken_files_are_refused_in_one_line(tmp_path: Path, told: str) -> None:
    path = save_certificates(tmp_path, [FIRST], BACKBONE)
    change(path, BROKEN[told])
    with pytest.raises(UserError, match=told) as caught:
        load_certificates(tmp_path, BACKBONE)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_promise_cannot_be_relaxed_by_hand(tmp_path: Path) -> None:
    path = save_certificates(tmp_path, [FIRST], BACKBONE)
    change(path, lambda c: c["certificates"][0].update(empirical_risk=0.0))
    with pytest.raises(UserError, match=r"changed since it was written \(its SHA-256 differs\)"):
        load_certificates(tmp_path, BACKBONE)
    change(path, lambda c: c.pop("sha256"))  # a file that was made without dynexit
    assert len(load_certificates(tmp_path, BACKBONE)) == 1


def test_half_a_file(tmp_path: Path) -> None:
    path = save_certificates(tmp_path, [FIRST], BACKBONE)
    path.write_text(path.read_text()[:100])
    with pytest.raises(UserError, match="not valid JSON"):
        load_certificates(tmp_path)
