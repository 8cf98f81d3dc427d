"""How good an architecture is: training, tables."""
