"""Whatever goes wrong, a written file is whole or the old one is still there."""

import errno
import json
import os
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from dynexit import files
from dynexit.errors import UserError
from dynexit.files import atomic_directory, atomic_path, read_json, write_json


def names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def fail_file(path: Path, error: BaseException) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        raise error


def fail_directory(path: Path, error: BaseException) -> None:
    with atomic_directory(path) as temporary:
        (temporary / "exits.json").write_text("half")
        raise error


class TestAtomicPath:
    def test_writes_and_replaces(self, tmp_path: Path) -> None:
        target = tmp_path / "deep" / "er" / "plot.svg"
        for content in ("one", "two"):
            with atomic_path(target) as temporary:
                assert temporary.parent == target.parent
                assert temporary.suffix == ".svg"
                temporary.write_text(content)
            assert target.read_text() == content
        assert names(target.parent) == ["plot.svg"]

    def test_target_is_untouched_until_the_end(self, tmp_path: Path) -> None:
        target = tmp_path / "a.json"
        target.write_text("old")
        with atomic_path(target) as temporary:
            temporary.write_text("new")
            assert target.read_text() == "old"
        assert target.read_text() == "new"

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("x"), SystemExit(1)])
    def test_any_error_leaves_the_old_file(self, tmp_path: Path, error: BaseException) -> None:
        target = tmp_path / "a.json"
        target.write_text("old")
        with pytest.raises(type(error)):
            fail_file(target, error)
        assert target.read_text() == "old"
        assert names(tmp_path) == ["a.json"]

    def test_disk_full_at_sync(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "fsync", full_disk)
        with (
            pytest.raises(UserError, match=r"a\.json: the disk is full.*free space and run again"),
            atomic_path(tmp_path / "a.json") as temporary,
        ):
            temporary.write_text("content")
        assert names(tmp_path) == []

    def test_disk_full_at_write(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "a.json").write_text("old")
        monkeypatch.setattr(Path, "write_bytes", full_disk)
        with pytest.raises(UserError, match="disk is full"):
            write_json(tmp_path / "a.json", {"a": 1})
        assert (tmp_path / "a.json").read_text() == "old"
        assert names(tmp_path) == ["a.json"]

    @pytest.mark.parametrize(
        "error",
        [
            OSError(errno.EDQUOT, "Disk quota exceeded"),
            SafetensorError("I/O error: No space left on device (os error 28)"),
        ],
    )
    def test_disk_full_in_other_words(self, tmp_path: Path, error: Exception) -> None:
        with pytest.raises(UserError, match="disk is full"):
            fail_file(tmp_path / "a.safetensors", error)
        assert names(tmp_path) == []

    def test_errors_of_the_block_pass_unchanged(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a") as temporary:
            temporary.write_text((tmp_path / "another").read_text())
        assert names(tmp_path) == []

    def test_the_umask_decides_who_may_read(self, tmp_path: Path) -> None:
        target = tmp_path / "weights.safetensors"
        (tmp_path / "plain").touch()
        with atomic_path(target) as temporary:
            save_file({"w": np.arange(3)}, temporary)
        assert load_file(target)["w"].tolist() == [0, 1, 2]
        assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE(
            (tmp_path / "plain").stat().st_mode
        )

    def test_follows_a_link(self, tmp_path: Path) -> None:
        (tmp_path / "real").write_text("old")
        (tmp_path / "link").symlink_to("real")
        with atomic_path(tmp_path / "link") as temporary:
            temporary.write_text("new")
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "real").read_text() == "new"

    def test_refuses_what_is_no_file(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        for path, kind in ((tmp_path, "a directory"), (tmp_path / "pipe", "not a regular file")):
            with pytest.raises(UserError, match=kind), atomic_path(path):
                pass

    def test_parent_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(UserError, match="cannot write"), atomic_path(tmp_path / "file" / "a"):
            pass

    def test_long_names(self, tmp_path: Path) -> None:
        with atomic_path(tmp_path / ("n" * 250 + ".json")) as temporary:
            temporary.touch()
        assert names(tmp_path) == ["n" * 250 + ".json"]


class TestAtomicDirectory:
    def test_writes_and_replaces_whole(self, tmp_path: Path) -> None:
        target = tmp_path / "runs" / "exits"
        with atomic_directory(target) as temporary:
            (temporary / "exits.json").write_text("one")
            (temporary / "calibration.json").write_text("stale")
        with atomic_directory(target) as temporary:
            (temporary / "exits.json").write_text("two")
            assert (target / "exits.json").read_text() == "one"
        assert names(target) == ["exits.json"]
        assert (target / "exits.json").read_text() == "two"
        assert names(target.parent) == ["exits"]

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("x")])
    def test_any_error_leaves_the_old_one(self, tmp_path: Path, error: BaseException) -> None:
        target = tmp_path / "exits"
        target.mkdir()
        (target / "exits.json").write_text("old")
        with pytest.raises(type(error)):
            fail_directory(target, error)
        assert (target / "exits.json").read_text() == "old"
        assert names(tmp_path) == ["exits"]

    def test_disk_full(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "fsync", full_disk)
        with (
            pytest.raises(UserError, match="disk is full"),
            atomic_directory(tmp_path / "exits") as temporary,
        ):
            (temporary / "exits.json").write_text("new")
        assert names(tmp_path) == []

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.EIO, "I/O error")])
    def test_failing_between_the_two_moves(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
    ) -> None:
        target = tmp_path / "exits"
        target.mkdir()
        (target / "exits.json").write_text("old")
        move, calls = os.replace, []

        def second_fails(source: Path, destination: Path) -> None:
            calls.append(source)
            if len(calls) == 2:
                raise error
            move(source, destination)

        monkeypatch.setattr(os, "replace", second_fails)
        monkeypatch.setattr(files, "_exchanged", lambda *_: False)  # as where it takes two moves
        with (
            pytest.raises((KeyboardInterrupt, UserError)),
            atomic_directory(target) as temporary,
        ):
            (temporary / "exits.json").write_text("new")
        assert (target / "exits.json").read_text() == "old"
        assert names(tmp_path) == ["exits"]

    def test_there_is_always_one_at_its_place(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Replacing is one step on Linux: whatever is looked at between two steps, it is there."""
        if sys.platform != "linux":
            pytest.skip("only Linux exchanges directories in one step")
        target, move = tmp_path / "exits", os.replace

        def watched(source: Path, destination: Path) -> None:
            assert not target.exists(), "moved away, so that for a moment there is none"
            move(source, destination)

        monkeypatch.setattr(os, "replace", watched)
        for content in ("one", "two"):
            with atomic_directory(target) as temporary:
                (temporary / "exits.json").write_text(content)
        assert (target / "exits.json").read_text() == "two"
        assert names(tmp_path) == ["exits"]

    def test_in_two_moves(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(files, "_exchanged", lambda *_: False)
        for content in ("one", "two"):
            with atomic_directory(tmp_path / "exits") as temporary:
                (temporary / "exits.json").write_text(content)
        assert (tmp_path / "exits" / "exits.json").read_text() == "two"
        assert names(tmp_path) == ["exits"]

    def test_refuses_foreign_directories(self, tmp_path: Path) -> None:
        target = tmp_path / "documents"
        target.mkdir()
        (target / "thesis.txt").write_text("precious")
        with (
            pytest.raises(UserError, match="holds other files"),
            atomic_directory(target) as temporary,
        ):
            (temporary / "exits.json").touch()
        with (
            pytest.raises(UserError, match="holds other files"),
            atomic_directory(target, marker="exits.json"),
        ):
            pytest.fail("with a marker, the refusal comes before the work")
        assert (target / "thesis.txt").read_text() == "precious"
        assert names(tmp_path) == ["documents"]

    def test_marker_lets_an_earlier_one_be_replaced(self, tmp_path: Path) -> None:
        target = tmp_path / "exits"
        for content in ("one", "two"):
            with atomic_directory(target, marker="exits.json") as temporary:
                (temporary / "exits.json").write_text(content)
        assert (target / "exits.json").read_text() == "two"

    def test_refuses_the_working_directory_and_above(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "work").mkdir()
        monkeypatch.chdir(tmp_path / "work")
        for path in (".", "..", tmp_path, Path.home(), "/"):
            with pytest.raises(UserError, match="directory you work in"), atomic_directory(path):
                pass

    def test_refuses_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "exits").write_text("a file")
        with (
            pytest.raises(UserError, match="a file is there"),
            atomic_directory(tmp_path / "exits"),
        ):
            pass


class TestJson:
    def test_round_trip(self, tmp_path: Path) -> None:
        data = {"layers": [8, 16], "text": "état → 漢字", "nested": {"x": None, "y": 0.5}}
        write_json(tmp_path / "a.json", data)
        assert read_json(tmp_path / "a.json") == data
        assert "état → 漢字" in (tmp_path / "a.json").read_text(encoding="utf-8")

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
    def test_what_is_no_json_writes_nothing(self, tmp_path: Path, value: object) -> None:
        with pytest.raises((ValueError, TypeError)):
            write_json(tmp_path / "a.json", {"value": value})
        assert names(tmp_path) == []

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            (b"", r"not valid JSON.*line 1, column 1"),
            (b'{"a": 1,\n "b" 2}', r"not valid JSON.*line 2, column 6"),
            (b'{"a": "\xff"}', r"not UTF-8 text \(byte 7\)"),
            (b"[1, 2]", "must hold a JSON object.*a list"),
            (b"null", "must hold a JSON object.*null"),
            (b"3", "must hold a JSON object.*a value"),
            (b"[" * 200_000, "not usable JSON"),
            (b'{"a": ' + b"1" * 5000 + b"}", "not usable JSON"),
        ],
    )
    def test_malformed(self, tmp_path: Path, content: bytes, problem: str) -> None:
        path = tmp_path / "config.json"
        path.write_bytes(content)
        with pytest.raises(UserError, match=problem) as caught:
            read_json(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"exits\.json does not exist"):
            read_json(tmp_path / "exits.json")

    def test_directory(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"cannot read .*: is a directory"):
            read_json(tmp_path)

    def test_file_is_plain_json(self, tmp_path: Path) -> None:
        write_json(tmp_path / "a.json", {"a": 1})
        assert (tmp_path / "a.json").read_text() == json.dumps({"a": 1}, indent=2) + "\n"
