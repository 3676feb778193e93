"""Texts decoded with exits together: those whose token goes deep wait until half of them do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dynexit.inference.deferred import DeferringDecoder
from dynexit.inference.step import Step
from dynexit.serving.batch import Batch, Text
from dynexit.serving.limits import Limits
from dynexit.serving.order import Event

PATIENCE = 3  # steps of others that a text waits at most


class DeferringBatch(Batch):
    """A ``Batch`` in which a step gives some texts a token and lets others wait, so that layers run
    for several tokens or not at all."""

    def __init__(self, decoder: DeferringDecoder, limits: Limits) -> None:
        super().__init__(decoder, limits)
        self._deferring = decoder
        self._waited = 0

    def _advance(self, texts: Mapping[int, Text]) -> list[tuple[Text, list[Event]]]:
        made: list[tuple[Text, list[Event]]] = []
        waiting = set(self._deferring.held)
        ready = {row: text for row, text in texts.items() if row not in waiting}
        if ready:
            ids = [text.answer.last for text in ready.values()]
            deep = [row for row, text in ready.items() if text.deep]
            left, step = self._deferring.begin(ids, list(ready), deep)
            made += self._tell(texts, left, step)
        held = self._deferring.held
        if held and (2 * len(held) >= len(texts) or self._waited >= PATIENCE):
            made += self._tell(texts, held, self._deferring.finish(held))
            held = []
        self._waited = self._waited + 1 if held else 0
        return made

    def _tell(
        self, texts: Mapping[int, Text], rows: Sequence[int], step: Step | None
    ) -> list[tuple[Text, list[Event]]]:
        return [] if step is None else self._choose([texts[row] for row in rows], step)
