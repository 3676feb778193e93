"""No file makes a parser fail otherwise than by one clear line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from fuzz.campaign import CORPUS, attempt
from fuzz.server import SERVERS
from fuzz.targets import MAKERS, make_target

KEPT = sorted(path for path in CORPUS.glob("*/*") if path.is_file())


def check(name: str, place: Path, examples: int) -> None:
    """That many broken files of a target, the same ones at each run."""
    target = make_target(name, place)

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(target.inputs)
    def go(content: bytes) -> None:
        attempt(target, content)

    go()


@pytest.mark.parametrize("name", [name for name in MAKERS if name not in SERVERS])
def test_broken_files(name: str, tmp_path: Path) -> None:
    check(name, tmp_path, 15)


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKERS)
def test_many_broken_files(name: str, tmp_path: Path) -> None:
    check(name, tmp_path, 150)


@pytest.mark.parametrize("path", KEPT, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_once_crashed(path: Path, tmp_path: Path) -> None:
    attempt(make_target(path.parent.name, tmp_path), path.read_bytes())


@pytest.mark.parametrize("name", [name for name in MAKERS if name not in SERVERS])
def test_sound_files_are_accepted(name: str, tmp_path: Path) -> None:
    """Else only the refusal of the seeds would be tested."""
    target = make_target(name, tmp_path)
    accepted = [seed for seed in target.seeds if attempt(target, seed) is None]
    assert accepted == list(target.seeds)
