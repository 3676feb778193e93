"""``dynexit lm-eval``: lm-evaluation-harness with dynexit's models."""

from __future__ import annotations

import typer

PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def lm_eval(ctx: typer.Context) -> None:
    """Run lm-evaluation-harness, which then knows the model dynexit.

    All arguments are those of the harness's own command, lm-eval (--help shows them), and the
    results are its own too; what exits saved stands in them under config, dynexit.
    --model_args takes pretrained (MODEL), and as in `dynexit generate` exits, judge, threshold,
    exit_layer, state, layers and dtype; also max_length and max_gen_toks.

    Example: `dynexit lm-eval --model dynexit --model_args
    pretrained=reference:mamba2,judge=mamba,threshold=0.9 --tasks truthfulqa_mc1 --batch_size 16`
    """
    import subprocess
    import sys

    # in a process of its own, where the harness finds the arguments as its command line
    command = [sys.executable, "-m", "dynexit.evaluation.harness", *ctx.args]
    raise typer.Exit(subprocess.run(command).returncode)
