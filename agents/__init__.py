"""The agents: controllers that learn to build architectures."""
