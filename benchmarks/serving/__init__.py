"""How fast, how steady and how large the model services are: `python -m benchmarks.serving.<name>`."""
