"""A threshold with a guarantee, for prompts like yours.

    python examples/calibrate.py examples/questions.jsonl --risk 0.05

With a confidence of 95%, answers with exits then lose at most the risk against the full model's
(1 - ROUGE-L) on average over prompts such as these. Small risks need hundreds of prompts.
"""

import argparse
from contextlib import nullcontext
from pathlib import Path

import dynexit
from dynexit.evaluation.certify import Calibration, certify
from dynexit.evaluation.independent import prompt_task
from dynexit.evaluation.losses import loss_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--risk", type=float, default=0.05)
    given = parser.parse_args()

    model = dynexit.load("reference:mistral", judge="mamba")
    policy = model.choice().policy
    assert policy is not None  # None would be full depth
    tasks = [prompt_task(given.data, limit=None, max_new_tokens=16)]
    wanted = Calibration(model.model, policy, tasks, loss_of("text", tasks), [given.risk], 0.95)
    (rung,) = certify(wanted, lambda title, total: nullcontext(lambda: None))  # no progress bar

    outcome = rung.outcome
    if not outcome.valid:
        print(f"no threshold is valid: about {outcome.needed_n} prompts are needed")
        return
    threshold = outcome.best.threshold
    print(f"threshold {threshold:g}, measured risk {outcome.best.empirical:.3f}")
    print(f"{rung.cost.layer_saving:.0%} of the layers saved")
    answer = model.generate("Question: What is the capital of Peru?\nAnswer:", threshold=threshold)
    print(answer.text.strip())


if __name__ == "__main__":
    main()
