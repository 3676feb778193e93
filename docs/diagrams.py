"""Draws the pictures of the concepts' pages.

    python docs/diagrams.py

writes ``docs/pictures/*.svg``. Each has a ground of its own, light or dark as its reader's system
is, so that it can be read on any page.
"""

from __future__ import annotations

import math
from pathlib import Path
from xml.sax.saxutils import escape

OUT = Path(__file__).parent / "pictures"
STYLE = """
svg { --ground: #ffffff; --ink: #1f2933; --soft: #64748b; --line: #cbd5e1;
      --run: #0f766e; --late: #b45309; --bad: #dc2626; --on: #ffffff; }
@media (prefers-color-scheme: dark) {
  svg { --ground: #1e2430; --ink: #e5e9f0; --soft: #9aa5b8; --line: #4b5568;
        --run: #2dd4bf; --late: #fbbf24; --bad: #f87171; --on: #10151d; } }
text { font: 13px system-ui, sans-serif; fill: var(--ink); }
.soft { fill: var(--soft); font-size: 12px; }
.on { fill: var(--on); }
.ground { fill: var(--ground); stroke: var(--line); }
.run { fill: var(--run); } .late { fill: var(--late); } .bad { fill: var(--bad); }
.none { fill: none; stroke: var(--line); }
.dashed { fill: none; stroke: var(--late); stroke-dasharray: 4 3; stroke-width: 1.5; }
.frozen { fill: var(--line); }
.stroke { fill: none; stroke: var(--soft); stroke-width: 1.5; }
.curve { fill: none; stroke: var(--run); stroke-width: 2.5; }
.limit { fill: none; stroke: var(--bad); stroke-width: 1.5; stroke-dasharray: 6 4; }
.head { fill: var(--soft); }
"""


class Picture:
    """An SVG in the making; coordinates are pixels from the upper left."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self._size, self._title = (width, height), title
        self._parts: list[str] = []

    def box(self, x: float, y: float, w: float, h: float, kind: str) -> None:
        at = f'x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}"'
        self._parts.append(f'<rect {at} rx="3" class="{kind}"/>')

    def text(self, x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> None:
        at = f'x="{x:g}" y="{y:g}" text-anchor="{anchor}" class="{kind}"'
        self._parts.append(f"<text {at}>{escape(words)}</text>")

    def line(self, points: list[tuple[float, float]], kind: str = "stroke") -> None:
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        self._parts.append(f'<polyline points="{path}" class="{kind}"/>')

    def arrow(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        self.line([start, end])
        angle = math.atan2(end[1] - start[1], end[0] - start[0])
        wings = [
            (end[0] - 8 * math.cos(angle + side), end[1] - 8 * math.sin(angle + side))
            for side in (0.45, -0.45)
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (end, *wings))
        self._parts.append(f'<polygon points="{path}" class="head"/>')

    def save(self, name: str) -> None:
        w, h = self._size
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}">'
        ground = f'<rect x=".5" y=".5" width="{w - 1}" height="{h - 1}" rx="8" class="ground"/>'
        content = [head, f"<title>{escape(self._title)}</title>", f"<style>{STYLE}</style>", ground]
        lines = "\n".join([*content, *self._parts, "</svg>"])
        (OUT / name).write_text(lines + "\n", encoding="utf-8")


def judge() -> None:
    """The beginning of an answer of ``reference:mistral`` with its Mamba judge: 12 layers."""
    p = Picture(720, 312, "Each token leaves at the first exit whose score reaches the threshold")
    words = ("No", ",", "the", "currency", "of", "Switzerland", "is", "the", "franc")
    depths = (12, 2, 2, 12, 2, 12, 2, 2, 12)
    top, cell, left, step = 40, 20, 130, 64
    for layer in range(1, 13):
        y = top + (12 - layer) * cell + 14
        p.text(left - 16, y, f"layer {layer}", "soft", "end")
        if layer in (2, 3):
            p.text(14, y, "judge")
    for column, (word, depth) in enumerate(zip(words, depths, strict=True)):
        x = left + column * step
        for layer in range(1, 13):
            kind = "none" if layer > depth else "run"
            p.box(x, top + (12 - layer) * cell + 2, 54, cell - 4, kind)
        if depth < 12:
            p.text(x + 27, top + (11 - depth) * cell + 14, "leaves", "soft", "middle")
        p.text(x + 27, top + 12 * cell + 20, word, "", "middle")
    p.text(left, 24, "filled layers are run, the others are not read", "soft")
    p.save("judge.svg")


def skipped_state() -> None:
    """Two tokens, five layers: the first leaves after layer 2, the second goes to the end."""
    p = Picture(720, 262, "What the skipped layers are told of a token that left early")
    told = {
        "copy": ("late", "keys and values of", "layer 2, again"),
        "propagate": ("dashed", "only the state's own", "projections are run"),
        "freeze": ("frozen", "nothing: the state", "stays as it was"),
        "recompute": ("run", "run later, together", "with the next token"),
    }
    for column, (name, (kind, first, second)) in enumerate(told.items()):
        x = 24 + column * 174
        p.text(x + 72, 26, name, "", "middle")
        for layer in range(1, 6):
            y = 40 + (5 - layer) * 30
            p.box(x, y, 62, 24, "run" if layer <= 2 else kind)
            p.box(x + 82, y, 62, 24, "run")
            if layer > 2 and name == "recompute":
                p.arrow((x + 80, y + 12), (x + 65, y + 12))
        if name == "copy":
            p.arrow((x + 31, 129), (x + 31, 52))
        p.text(x + 31, 206, "left at 2", "soft", "middle")
        p.text(x + 113, 206, "next", "soft", "middle")
        p.text(x + 72, 230, first, "soft", "middle")
        p.text(x + 72, 246, second, "soft", "middle")
    p.save("skipped-state.svg")


def lossless() -> None:
    """Three drafts through the lower layers, one pass of the upper layers for all of them."""
    p = Picture(600, 290, "Drafts by the lower layers, verified by the upper ones in one batch")
    words = ["The", "capital", "is", "Lyon"]
    for column, word in enumerate(words):
        x = 120 + column * 120
        p.box(x, 172, 84, 46, "run")
        p.text(x + 42, 200, "layers 1–6", "on", "middle")
        p.text(x + 42, 240, word, "", "middle")
        p.arrow((x + 42, 170), (x + 42, 120))
        if column < 3:
            p.arrow((x + 86, 195), (x + 118, 195))
    p.box(120, 70, 444, 46, "late")
    p.text(342, 98, "layers 7–12: all four at once, their weights read once", "on", "middle")
    verdicts = ["capital ✓", "is ✓", "Lyon ✗ → Paris", "not used"]
    for column, verdict in enumerate(verdicts):
        p.text(162 + column * 120, 54, verdict, "bad" if column == 2 else "", "middle")
    p.text(120, 28, "what the full model says after each", "soft")
    p.text(120, 268, "capital, is and Lyon are drafts of the exit after layer 6", "soft")
    p.text(14, 98, "verify", "")
    p.text(14, 200, "draft", "")
    p.save("lossless.svg")


def calibration() -> None:
    """Thresholds tested from the safest down, until one fails."""
    p = Picture(720, 310, "Thresholds are tested from the safest down; the last that passes counts")
    left, bottom, width, height = 70, 250, 600, 210
    p.line([(left, bottom - height), (left, bottom), (left + width, bottom)])
    limit = bottom - 0.5 * height
    p.line([(left, limit), (left + width, limit)], "limit")
    p.text(left + 6, limit - 8, "the risk you allow", "soft")
    p.line(
        [(left + t * 6, bottom - height * 0.75 * (t / 100) ** 2.4) for t in range(0, 101, 4)],
        "curve",
    )
    p.text(left + 560, 78, "measured risk", "soft", "end")
    for number in range(6):
        share = 0.1 + number * 0.13
        x, risk = left + share * width, 0.75 * share**2.4
        bound = risk + 0.14 + 0.06 * share
        passes = bound <= 0.5
        low, high = bottom - risk * height, bottom - bound * height
        p.line([(x, low), (x, high)])
        p.box(x - 5, high - 5, 10, 10, "run" if passes else "bad")
        if not passes:
            p.text(x, high - 12, "fails: stop", "bad", "middle")
            break
    chosen = left + (0.1 + (number - 1) * 0.13) * width
    p.arrow((chosen, bottom + 26), (chosen, bottom + 4))
    p.text(chosen, bottom + 42, "certified", "", "middle")
    p.text(left + width, bottom + 20, "lower threshold →", "soft", "end")
    p.text(left + 100, 24, "squares: what the risk may be at most, with your confidence", "soft")
    p.save("calibration.svg")


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    for draw in (judge, skipped_state, lossless, calibration):
        draw()
