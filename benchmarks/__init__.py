"""Measurements of the running system; each prints a table and writes `.mpa/benchmarks/<name>.json`."""
