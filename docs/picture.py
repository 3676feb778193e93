"""Draws the README's picture: answers of the shipped pair, every token coloured by its exit layer.

    python docs/picture.py

writes ``docs/depth.svg``.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

from dynexit.exits.exit_set import load_exit_set
from dynexit.exits.policy import ExitPolicy
from dynexit.exits.skipped import skipped_state
from dynexit.inference.generate import generate
from dynexit.inference.settings import GenerationSettings
from dynexit.models import load_model
from dynexit.reference.corpus.item import MISCONCEPTIONS, STORIES, TRIVIA, prompt
from dynexit.reference.corpus.mixture import held_out_items
from dynexit.reference.pair import NAMES, exits_directory
from dynexit.reporting.depth import depth_legend, depth_text

OUT = Path(__file__).parent / "depth.svg"
# rich asks a server for its font; the reader's own monospace does
FORMAT = re.sub(r"@font-face {{.*?}}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
SETTINGS = GenerationSettings(max_new_tokens=32, stop=("\n",))


def questions() -> list[str]:
    """One held-out question of each task, the last turn of the story."""
    story = next(i for i in held_out_items(STORIES, 40) if "Tell me" in i.turns[-1].question)
    trivia, misconception = (held_out_items(t, 1)[0] for t in (TRIVIA, MISCONCEPTIONS))
    return [prompt(trivia, 0), prompt(misconception, 0), prompt(story, len(story.turns) - 1)]


def main() -> None:
    console = Console(record=True, width=100, file=io.StringIO(), force_terminal=True)
    for name in NAMES:
        model = load_model(f"reference:{name}")
        exits = load_exit_set(exits_directory(name, "mamba"), model.backbone)
        policy = ExitPolicy(exits.judge, exits.thresholds, skipped_state("recompute"))
        console.print(f"reference:{name}", style="bold")
        layers: list[int] = []
        for question in questions():
            answer = generate(model, question, SETTINGS, policy)[0]
            console.print(Text(question, style="dim"), end="")
            pieces = [(token.text, token.exit_layer) for token in answer.tokens]
            layers += [layer for _, layer in pieces]
            console.print(depth_text(pieces, answer.layers))
        console.print(depth_legend(layers, model.backbone.depth))
        console.print()
    title = "dynexit generate --judge mamba --show-depth"
    console.save_svg(str(OUT), title=title, code_format=FORMAT)


if __name__ == "__main__":
    main()
