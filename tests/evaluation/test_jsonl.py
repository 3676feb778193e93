"""A journal keeps every row that was written, once, through kills and full disks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynexit.errors import UserError
from dynexit.evaluation.jsonl import Journal, append_rows, read_rows


def key(row: object) -> object:
    assert isinstance(row, dict)
    return row["id"]


def test_rows_once(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "rows.jsonl"
    journal = Journal(path, key)
    journal.add([{"id": 1, "v": "ä"}, {"id": 1, "v": "other"}, {"id": 2}])
    journal.add([{"id": 2, "v": "late"}, {"id": 3}])
    assert read_rows(path) == [{"id": 1, "v": "ä"}, {"id": 2}, {"id": 3}] == journal.rows
    assert 3 in journal
    assert 4 not in journal
    again = Journal(path, key)
    again.rewrite([{"id": 2}, {"id": 5}])
    assert read_rows(path) == again.rows == [{"id": 2}, {"id": 5}]


def test_doubled_rows_count_once(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    append_rows(path, [{"id": 1, "v": 1}, {"id": 1, "v": 2}])
    assert Journal(path, key).rows == [{"id": 1, "v": 1}]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_killed_at_any_byte(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("torn") / "rows.jsonl"
    rows = [{"id": n, "text": "é\n" * n} for n in range(4)]
    append_rows(path, rows)
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    left = whole[:cut].count(b"\n")
    assert read_rows(path) == rows[:left]
    Journal(path, key).add(rows)
    assert path.read_bytes() == whole


def test_a_damaged_line_is_told(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": 1}\n{"id": \n{"id": 3}\n')
    with pytest.raises(UserError, match=r"rows.jsonl, line 2 is damaged"):
        read_rows(path)


def test_full_disk() -> None:
    with pytest.raises(UserError, match="the disk is full; free space"):
        append_rows(Path("/dev/full"), [{"id": 1}])


def test_no_place_for_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text(json.dumps({}))
    with pytest.raises(UserError, match=r"cannot write .*choose another directory"):
        append_rows(tmp_path / "file" / "rows.jsonl", [{"id": 1}])


@pytest.mark.parametrize("row", [{"id": {}}, {"other": 1}])
def test_a_row_without_a_usable_key_is_told(row: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    append_rows(path, [row])
    with pytest.raises(UserError, match=r"rows\.jsonl: a row has no name"):
        Journal(path, lambda row: row["id"])
