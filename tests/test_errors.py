"""The line of a user's mistake."""

from __future__ import annotations

from dynexit.errors import HEAD, TAIL, UserError


def test_a_message_of_usual_length_is_kept() -> None:
    assert str(UserError("x" * (HEAD + TAIL))) == "x" * (HEAD + TAIL)


def test_of_a_very_long_message_place_and_cure_are_kept() -> None:
    line = str(UserError(f"config.json: dtype {'a' * 10**5} is not supported; use float32"))
    assert line.startswith("config.json: dtype aaa")
    assert line.endswith("is not supported; use float32")
    assert len(line) < 1000
