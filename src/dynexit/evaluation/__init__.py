"""Tasks, metrics, consistency with the full model, and cost."""
