"""Where a run is recorded for people: Weights & Biases, the terminal."""
