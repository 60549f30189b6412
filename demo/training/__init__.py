"""The recipe that trains the demo's two models from scratch: ``python -m demo.training``."""
