"""``python -m dynexit.evaluation.harness ARGS``: ``lm-eval ARGS`` with dynexit's model."""

from __future__ import annotations

import sys

from dynexit.errors import UserError


def main() -> None:
    """Run the harness's command on the arguments of this one; 2 is the code of a user's mistake."""
    try:
        from lm_eval.__main__ import cli_evaluate
    except ImportError:
        sys.exit(_told("lm-eval is not installed; install it with: pip install 'dynexit[harness]'"))
    import dynexit.evaluation.harness  # noqa: F401  (registers the model)

    try:
        cli_evaluate()
    except UserError as error:
        sys.exit(_told(str(error)))


def _told(message: str) -> int:
    print(f"dynexit: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
