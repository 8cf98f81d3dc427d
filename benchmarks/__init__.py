"""Speed and quality, measured: each module runs alone, as ``python -m benchmarks.<name>``."""
