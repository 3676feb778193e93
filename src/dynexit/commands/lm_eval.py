"""``dynexit lm-eval``: lm-evaluation-harness with dynexit's models."""

from __future__ import annotations

import typer

# how the command is to be added: what it does not know itself is the harness's
PASSED_ON = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "allow_interspersed_args": False,  # so that --help after a word is the harness's
}


def lm_eval(ctx: typer.Context) -> None:
    """Run lm-evaluation-harness, which then knows the model dynexit.

    All arguments are those of the harness's own command, which `dynexit lm-eval run --help` shows,
    and the results are its own too; what exits saved stands in them under config, dynexit.
    --model_args takes pretrained (MODEL), and as in `dynexit generate` exits, judge, threshold,
    exit_layer, state, layers, lossless and dtype; also device, max_length and max_gen_toks.

    Example: `dynexit lm-eval --model dynexit --model_args
    pretrained=reference:mamba2,judge=mamba,threshold=0.9 --tasks truthfulqa_mc1 --batch_size 16`
    """
    import subprocess
    import sys

    # in a process of its own, where the harness finds the arguments as its command line
    command = [sys.executable, "-m", "dynexit.evaluation.harness", *ctx.args]
    raise typer.Exit(subprocess.run(command).returncode)
