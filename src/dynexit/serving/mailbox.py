"""Events on their way from the engine's thread to one coroutine."""

from __future__ import annotations

import asyncio

from dynexit.serving.order import Event


class Mailbox:
    """Belongs to the event loop that made it; ``put`` may be called from any thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._there = asyncio.Event()
        self._events: list[Event] = []

    def put(self, events: list[Event]) -> None:
        """Raises ``RuntimeError`` where the loop is closed."""
        self._loop.call_soon_threadsafe(self._take_in, events)

    async def get(self) -> list[Event]:
        """All events that have come since last asked, one at least."""
        await self._there.wait()
        self._there.clear()
        events, self._events = self._events, []
        return events

    def _take_in(self, events: list[Event]) -> None:
        self._events += events
        self._there.set()
