"""Visual question answering: task profiles, official metrics, and when two answers are the same."""
