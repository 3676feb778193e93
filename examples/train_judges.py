"""Train judges on prompts of your own, and decode with them.

    python examples/train_judges.py examples/questions.jsonl exits --model reference:mamba2

The file is a .txt with a prompt on each line, or a .jsonl with {"prompt": ...} on each.
"""

import argparse
from pathlib import Path

import dynexit
from dynexit.training import ExitRecipe, train_exits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="reference:mistral")
    parser.add_argument("--epochs", type=int, default=12)
    given = parser.parse_args()

    model = dynexit.load(given.model)
    layers = (model.layers // 6, model.layers // 4, model.layers // 2)
    for judge in ("linear", "mamba"):
        # the full model answers the prompts; a judge learns at which layers it would say the same
        recipe = ExitRecipe(judge, layers, max_new_tokens=16, epochs=given.epochs)
        exits = given.out / judge
        found = train_exits(model.model, recipe, exits, given.data)
        for at in found:
            auroc = "one label only" if at.auroc is None else f"AUROC {at.auroc:.2f}"
            print(f"{judge}, layer {at.layer}: {at.positives:.0%} may leave, {auroc}")

        answer = model.generate("Question: What is the capital of France?\nAnswer:", exits=exits)
        print(f"{answer.text.strip()!r}, {answer.layer_saving:.0%} of the layers saved")


if __name__ == "__main__":
    main()
