"""After a search: the best of it trained fully, and how far its proxy could be trusted."""

from rlnas.retraining.files import has_truth, read_truth

__all__ = ["has_truth", "read_truth"]
