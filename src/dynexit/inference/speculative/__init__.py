"""Self-speculative decoding: draft with early exits, verify with the rest of the same layers."""

from dynexit.inference.speculative.draft_policy import DraftPolicy
from dynexit.inference.speculative.settings import Lossless

__all__ = ["DraftPolicy", "Lossless"]
