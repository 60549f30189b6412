"""Parity service: the job API, the workers that collect disparity sets, and the reconciler that loses no job."""
