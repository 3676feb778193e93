"""Texts decoded together without loss: exits draft, the last layer decides."""

from __future__ import annotations

from collections.abc import Mapping

from dynexit.errors import UserError
from dynexit.exits.policy import ExitPolicy
from dynexit.inference.speculative.costs import draft_policy
from dynexit.inference.speculative.settings import Lossless
from dynexit.inference.speculative.speculation import Feed, Speculation, drafting_of
from dynexit.inference.speculative.speculation import Made as Stood
from dynexit.models import Model
from dynexit.serving.batch import Batch, Text
from dynexit.serving.limits import Limits
from dynexit.serving.order import Event, Failed, Made


class LosslessBatch(Batch):
    """A ``Batch`` in which a step gives a text none, one or several tokens."""

    def __init__(self, model: Model, policy: ExitPolicy, limits: Limits) -> None:
        settings, backbone = Lossless(), model.backbone
        self._speculation = Speculation(
            backbone,
            limits.max_batch,
            limits.context(backbone.config.max_positions),
            policy,
            settings,
            draft_policy(backbone.config, policy, settings),
        )
        super().__init__(self._speculation.decoder, limits)

    def _clear(self, row: int) -> None:
        self._speculation.clear(row)

    def _advance(self, texts: Mapping[int, Text]) -> list[tuple[Text, list[Event]]]:
        feeds = {row: _feed(text) for row, text in texts.items()}
        try:
            made = self._speculation.step(feeds)
        except UserError as error:  # logits that are no numbers, and nobody knows whose
            return [(text, [Failed(str(error))]) for text in texts.values()]
        return [(text, self._events(row, text, made[row])) for row, text in texts.items()]

    def _events(self, row: int, text: Text, made: list[Stood]) -> list[Event]:
        """The tokens up to where the answer ends; what was verified beyond is left out."""
        events: list[Event] = []
        for one in made:
            if not text.answer.finish:
                token = text.answer.take(one.token, one.exit_layer, one.score)
                finish = text.answer.finish
                drafting = drafting_of(self._speculation.tallies[row]) if finish else None
                events.append(Made(text.choice, token, finish, None, drafting))
        return events


def _feed(text: Text) -> Feed:
    answer, ticket = text.answer, text.ticket
    return Feed(answer.last, answer.room, answer.would_end, ticket.sampler, text.choice)
