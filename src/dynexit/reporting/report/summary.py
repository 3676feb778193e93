"""What a report says in words: what came out, and how to read the table."""

from __future__ import annotations

from collections.abc import Sequence

from dynexit.reporting.report.cells import percent
from dynexit.reporting.report.settings import CONSISTENT, RULES, Best, group
from dynexit.reporting.report.sweep import Sweep


def summary(bests: Sequence[Best]) -> list[str]:
    """A line for each backbone and task on its best judge."""
    groups = group(bests, lambda b: (b.point.backbone, b.point.task))
    return [_line(*key, same) for key, same in groups.items()]


def _line(backbone: str, task: str, bests: Sequence[Best]) -> str:
    safe = [b.point for b in bests if b.rule == "saving"]
    where = f"{backbone}, {task} (n = {bests[0].point.n}): "
    if not safe:
        most = max((b.point for b in bests), key=lambda p: p.consistency["answers"])
        return (
            f"{where}no judge kept {CONSISTENT:.0%} of answers; the nearest, {most.judge}, "
            f"kept {percent(most.consistency['answers'])} and saved {percent(most.flop_saving)} "
            "of FLOPs."
        )
    top = max(safe, key=lambda p: p.flop_saving)
    kept = percent(top.consistency["answers"])
    return (
        f"{where}{top.judge} with {top.state} saved most, {percent(top.flop_saving)} of FLOPs, "
        f"with {kept} of answers the full model's."
    )


def table_notes(sweeps: Sequence[Sweep], bests: Sequence[Best]) -> tuple[str, ...]:
    """How settings were chosen and what the brackets hold."""
    notes = [f"Each judge is shown at one setting: {RULES['saving']}."]
    if any(b.rule == "consistency" for b in bests):
        notes.append(f"†: {RULES['consistency']}.")
    notes.append(
        "Settings are chosen and reported on the same questions, so the figures are somewhat "
        "optimistic; only a certificate, where there is one, is a guarantee. Brackets hold 95% "
        "bootstrap intervals over questions (1000 resamples, percentile), which leave that choice "
        "out. An interval of no width means only that all questions gave the same: of n answers "
        "all consistent, up to 3/n could still differ in the long run (95%)."
    )
    pooled = sorted({task for sweep in sweeps for task in sweep.pooled})
    if pooled:
        notes.append(f"The questions of other tasks are taken together as {', '.join(pooled)}.")
    if any(len(b.point.seeds) > 1 for b in bests):
        notes.append("Figures are means over training seeds; ± is their standard deviation.")
    return tuple(notes)
