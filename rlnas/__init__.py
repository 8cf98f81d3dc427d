"""Reinforcement-learning neural architecture search that engineers can trust."""

__version__ = "0.1.0"
