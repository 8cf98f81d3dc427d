"""The search spaces: choices, canonical form and networks."""
