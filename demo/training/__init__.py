"""The recipe that trains the demo pair from nothing: ``python -m demo.training``."""
