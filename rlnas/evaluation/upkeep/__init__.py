"""The care of stores: what is in them, whether it is sound, and how it is joined, exported and compacted."""
