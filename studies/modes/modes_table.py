"""What each mode keeps and saves, as Markdown and for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dynexit.evaluation.measure import Measurement
from dynexit.evaluation.ways import describe_drafting
from dynexit.reporting.tables import percent

ALL = "all"
METRIC = "em"  # exact match


def table(tasks: Sequence[str], found: Mapping[str, Mapping[str, Measurement]]) -> str:
    """A row a mode. ``found`` has by mode, then by task and for ``ALL``, what was measured."""
    heads = ["mode", *(f"{task}, exact" for task in tasks), "answers kept"]
    heads += ["layers saved", "bytes saved", "FLOPs saved", "drafts accepted", "at a time"]
    rows = [[name, *_cells(tasks, by_task)] for name, by_task in found.items()]
    lines = [[*heads, "speedup"], ["---"] * (len(heads) + 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _cells(tasks: Sequence[str], by_task: Mapping[str, Measurement]) -> list[str]:
    whole = by_task[ALL]
    drafting = whole.drafting
    return [
        *(percent(by_task[task].metrics[METRIC]) for task in tasks),
        percent(whole.consistency.answers),
        percent(whole.layer_saving),
        percent(whole.byte_saving),
        percent(whole.flop_saving),
        "" if drafting is None else percent(drafting.acceptance_rate),
        "" if drafting is None else f"{drafting.mean_acceptance_length:.1f}",
        f"{whole.speedup:.2f}x",
    ]


def as_json(found: Measurement) -> dict[str, object]:
    """For ``results.json``."""
    return {
        "n": found.n,
        "metrics": found.metrics,
        "consistency": found.consistency.answers,
        "token_consistency": found.consistency.tokens,
        "rouge_l": found.consistency.rouge_l,
        "layer_saving": found.layer_saving,
        "byte_saving": found.byte_saving,
        "flop_saving": found.flop_saving,
        "speedup": found.speedup,
        "tokens_per_second": found.tokens_per_second,
        **({} if found.drafting is None else describe_drafting(found.drafting)),
    }
