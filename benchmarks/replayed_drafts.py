"""What lossless decoding would give a large model whose drafts were as good as a small one's.

    python benchmarks/replayed_drafts.py --model reference:mistral --shape mistral-1b --work DIR

The shipped models are trained, so that their drafts are right as often as drafts are; but their
layers are so cheap that what is done between them counts as much. The shape's layers cost what
layers of real models cost, and its weights are random. So the small model answers the questions of
the reference tasks, and its drafts are replayed in the large one, whose layers after the first exit
are the identity: each leaves after the same share of the layers, at the price of the same judge,
and falls where it fell. Every text is decoded with drafts and plainly, one after the other.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from dynexit.commands.output import counting
from dynexit.evaluation.bench.drafting import Decoded, decode_plainly, decode_with_drafts
from dynexit.evaluation.bench.identity import identity_after
from dynexit.evaluation.bench.limits import machine
from dynexit.evaluation.bench.replayed_drafts import Replay, Trace, replaying, scaled, traces
from dynexit.evaluation.bench.subject import Subject, open_model, open_shape
from dynexit.evaluation.tasks.reference import reference_tasks
from dynexit.exits.choice import Wish, choose
from dynexit.exits.policy import ExitPolicy
from dynexit.files import write_json
from dynexit.inference.speculative.costs import draft_policy
from dynexit.inference.speculative.draft_policy import DraftPolicy
from dynexit.inference.speculative.settings import Lossless
from dynexit.models import Backbone, load_model

TEXT = tuple(range(16))


@dataclass(frozen=True)
class Large:
    """The model that is timed and the drafts that it follows."""

    backbone: Backbone
    policy: ExitPolicy
    replay: Replay

    def plainly(self, trace: Trace) -> Decoded:
        return decode_plainly(self.backbone, TEXT, len(trace.exits))

    def with_drafts(self, trace: Trace, drafting: DraftPolicy) -> Decoded:
        return decode_with_drafts(
            self.backbone,
            self.policy,
            Lossless(),
            TEXT,
            len(trace.exits),
            drafting=drafting,
            ready=lambda speculation: self.replay.follow(trace, speculation),
        )


def large(subject: Subject, policy: ExitPolicy, depth: int) -> Large:
    """``policy`` and ``depth`` are the small model's."""
    replay = Replay()
    layers = scaled(policy.layers, depth, subject.config.depth)
    backbone = identity_after(subject.backbone, layers[0])
    return Large(backbone, replaying(subject, policy.judge.kind, layers, replay), replay)


def rounds(model: Large, texts: Sequence[Trace], count: int) -> list[list[tuple[Decoded, Decoded]]]:
    """Each text plainly and with drafts, ``count`` times; what is learned of the drafts stays for
    the texts that follow in a round."""
    found: list[list[tuple[Decoded, Decoded]]] = []
    with counting("decoding", count * len(texts)) as tick:
        for _ in range(count):
            drafting = draft_policy(model.backbone.config, model.policy, Lossless())
            found.append([])
            for trace in texts:
                found[-1].append((model.plainly(trace), model.with_drafts(trace, drafting)))
                tick()
    return found


def summary(found: Sequence[Sequence[tuple[Decoded, Decoded]]]) -> dict[str, Any]:
    """Of all rounds; the speedup is that of the median round."""
    plain = [sum(p.seconds for p, _ in one) for one in found]
    drafted = [sum(d.seconds for _, d in one) for one in found]
    speedups = [p / d for p, d in zip(plain, drafted, strict=True)]
    pairs = [pair for one in found for pair in one]
    drafts, accepted, cycles = (
        sum(getattr(d, name) for _, d in pairs) for name in ("drafts", "accepted", "cycles")
    )
    total = sum(drafted)
    return {
        "tokens": sum(len(p.ids) for p, _ in found[0]),
        "ms_plain": 1000 * median(plain) / sum(len(p.ids) for p, _ in found[0]),
        "speedup": median(speedups),
        "low": min(speedups),
        "high": max(speedups),
        "acceptance_rate": accepted / max(1, drafts),
        "acceptance_length": accepted / max(1, cycles),
        "drafts_per_verification": drafts / max(1, cycles),
        "draft_share": sum(d.draft_seconds for _, d in pairs) / total,
        "verify_share": sum(d.verify_seconds for _, d in pairs) / total,
        "same_tokens": all(p.ids == d.ids for p, d in pairs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", default="reference:mistral", help="whose drafts are replayed")
    parser.add_argument("--shape", help="of the model that is timed (default: the same model)")
    parser.add_argument("--judge", default="mamba")
    parser.add_argument("--threshold", type=float, help="(default: that of drafts)")
    parser.add_argument("--questions", type=int, default=10, help="of each task")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("dynexit-bench"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    small = load_model(options.model)
    wish = Wish(judge=options.judge, threshold=options.threshold, lossless=True)
    policy = choose(small, wish).policy
    assert policy is not None
    texts = traces(small, reference_tasks(options.questions), policy)
    if options.shape is None:
        subject = open_model(options.model)
    else:
        subject = open_shape(options.shape, options.work, counting)
    model = large(subject, policy, small.backbone.depth)
    row = {
        "model": options.model,
        "shape": options.shape,
        "judge": options.judge,
        "exit_layers": list(model.policy.layers),
        "texts": len(texts),
        **summary(rounds(model, texts, options.rounds)),
    }
    if options.json is not None:
        write_json(options.json, {"machine": machine(), **row})
    for name, value in row.items():
        print(f"{name:24} {value:.3f}" if isinstance(value, float) else f"{name:24} {value}")


if __name__ == "__main__":
    main()
