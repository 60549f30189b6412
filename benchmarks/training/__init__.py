"""Measurements of the trainer: what it costs, against the alternative or the estimate, in one run."""
