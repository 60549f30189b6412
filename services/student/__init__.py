"""Serves the student: OpenAI chat completions and scores, and swaps checkpoints between two batches."""
