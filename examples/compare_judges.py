"""Judges side by side on the same prompts: who saves most while saying what the full model says?

python examples/compare_judges.py --limit 20
"""

import argparse
import json
from pathlib import Path

import dynexit

PROMPTS = Path(__file__).parent / "questions.jsonl"
JUDGES = ("linear", "ffn", "mamba", "top-probability", "margin", "entropy", "saturation")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="reference:mistral")
    parser.add_argument("--limit", type=int, default=20)
    parser.add_argument("--threshold", type=float, default=0.9)
    given = parser.parse_args()

    lines = PROMPTS.read_text(encoding="utf-8").splitlines()[: given.limit]
    prompts = [json.loads(line)["prompt"] for line in lines]
    model = dynexit.load(given.model, max_new_tokens=16, stop="\n")
    full = model.generate_batch(prompts)

    print(f"{'judge':<16} {'layers saved':>12} {'same answers':>13}")
    for judge in JUDGES:
        early = model.generate_batch(prompts, judge=judge, threshold=given.threshold)
        saving = sum(answer.layer_saving for answer in early) / len(early)
        same = sum(a.ids == b.ids for a, b in zip(early, full, strict=True)) / len(full)
        print(f"{judge:<16} {saving:>12.0%} {same:>13.0%}")


if __name__ == "__main__":
    main()
