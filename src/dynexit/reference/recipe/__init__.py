"""The recipe that trains the reference pair: ``python -m dynexit.reference.recipe``."""
