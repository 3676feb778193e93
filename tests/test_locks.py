"""One process writes to an output; what a killed one left behind stands in nobody's way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dynexit.errors import UserError
from dynexit.locks import claimed

HOLDER = """
import sys, time
from dynexit.locks import claimed
from dynexit.files import atomic_path
with claimed(sys.argv[1]), atomic_path(sys.argv[1]) as temporary:
    temporary.write_text("half")
    print("held", flush=True)
    time.sleep(60)
"""


def hold(output: Path) -> subprocess.Popen[str]:
    """A process that holds ``output`` and has written half of it."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(output)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_another_process_is_refused_until_it_is_killed(tmp_path: Path) -> None:
    output = tmp_path / "exits"
    process = hold(output)
    try:
        said = rf"another dynexit \(process {process.pid}\) is writing to {output}; wait for it"
        with pytest.raises(UserError, match=said) as caught, claimed(output):
            pytest.fail("held by two")
        assert "\n" not in str(caught.value)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(os.listdir(tmp_path)) == 2  # the lock file, and half of a file
    with claimed(output):
        assert os.listdir(tmp_path) == [".exits.lock"]
    assert os.listdir(tmp_path) == []


def test_outputs_side_by_side(tmp_path: Path) -> None:
    with claimed(tmp_path / "one"), claimed(tmp_path / "two"):
        assert sorted(os.listdir(tmp_path)) == [".one.lock", ".two.lock"]


@pytest.mark.parametrize("within", [False, True])
def test_threads_of_a_process_exclude_each_other(tmp_path: Path, within: bool) -> None:
    refused: list[str] = []

    def try_it() -> None:
        try:
            with claimed(tmp_path / "out", within=within):
                pass
        except UserError as error:
            refused.append(str(error))

    with claimed(tmp_path / "out", within=within):
        thread = threading.Thread(target=try_it)
        thread.start()
        thread.join()
    assert len(refused) == 1


def test_only_own_leftovers_go(tmp_path: Path) -> None:
    own = [".exits.0123456789ab", ".exits.ba9876543210"]
    others = [".exits2.0123456789ab", ".exits.0123456789ab.json", ".exits.xyz", "exits.old"]
    for name in (own[0], *others):
        (tmp_path / name).write_text("x")
    (tmp_path / own[1] / "deep").mkdir(parents=True)
    with claimed(tmp_path / "exits"):
        assert sorted(os.listdir(tmp_path)) == sorted([*others, ".exits.lock"])


def test_leftovers_within(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "exits"):
        place.mkdir(exist_ok=True)
        (place / ".sweep.0123456789ab.json").write_text("x")
        (place / "points.jsonl").write_text("{}\n")
    with claimed(tmp_path, within=True):
        found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
        assert found == [".lock", "exits", "exits/points.jsonl", "points.jsonl"]


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match=r"cannot write to .*out: file exists; choose another"),
        claimed(tmp_path / "file" / "out"),
    ):
        pytest.fail("claimed what cannot be written")


def test_workers_of_one_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with claimed(tmp_path / "exits"):
        monkeypatch.setenv("RANK", "1")
        with claimed(tmp_path / "exits"):
            assert os.listdir(tmp_path) == [".exits.lock"]
        assert os.listdir(tmp_path) == [".exits.lock"]


def test_an_error_frees_the_output(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="own"), claimed(tmp_path / "exits"):
        raise ValueError("own")
    assert os.listdir(tmp_path) == []
