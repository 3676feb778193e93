"""Decode with early exits: whole, token by token, and against the full model.

python examples/decode.py
"""

import dynexit

PROMPT = "Question: Is Sydney the capital of Australia?\nAnswer:"


def main() -> None:
    # a directory, a hub id, or one of the two models that come with the package
    model = dynexit.load("reference:mistral", judge="mamba", max_new_tokens=32)

    early = model.generate(PROMPT)
    print(f"{early}".strip())
    print(f"mean exit layer {early.mean_exit_layer:.1f} of {early.layers}")

    for token in model.stream(PROMPT, threshold=0.9):
        print(f"{token.text!r:>14} left after layer {token.exit_layer}, score {token.score:.3f}")

    # a threshold with a certificate: the risk against the full model is at most 0.05
    careful = model.generate(PROMPT, risk=0.05)
    full = model.generate(PROMPT, judge="none")
    print(f"certified: {careful.layer_saving:.0%} of the layers saved")
    print("the full model says the same" if careful.text == full.text else f"but it says {full}")


if __name__ == "__main__":
    main()
