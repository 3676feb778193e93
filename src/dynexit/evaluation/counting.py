"""How long work tells how far it has come, without knowing who listens."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

# Opens a count of steps with a title, and gives the function that counts one.
Counting = Callable[[str, int], AbstractContextManager[Callable[[], None]]]
