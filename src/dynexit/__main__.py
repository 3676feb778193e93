"""``python -m dynexit``: the same as the command."""

from dynexit.cli import main

if __name__ == "__main__":
    main()
